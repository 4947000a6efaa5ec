#!lua
-- Appends an execution's events to its stream and announces them, each once and in order.
--
-- KEYS[1]  the stream, and the channel of its announcements
-- ARGV[1]  the event_id of the event before the first one given; `none` where the event log
--          keeps none before it
-- ARGV[2…] event_id, message, event_id, message, … in order of their sequences
--
-- An event whose sequence follows the stream's last is added and announced; one that is
-- there already is skipped; at a gap the script stops. So it may be given any event any
-- number of times, by any number of processes, in any order. Only the first event that the
-- log keeps may begin a stream.
--
-- A stream is a copy of the log. One that holds another event where the log has this one,
-- or none where it should, is a copy of something else (of a database that was restored to
-- an older state, or somebody else wrote to it): it is deleted, to be filled anew.
--
-- The first line makes it a script that writes, which a replica refuses as a whole: what it
-- would find there says nothing of the primary. Announcements are of the key's slot, in a
-- cluster as on a single server.
--
-- Returns {last event_id of the stream, or ''; 1 where it stopped at a gap, else 0; 1 where
-- a stream was deleted, else 0}. The last id is taken from the stream's record, not from
-- its entries: it outlives trimming.

local key, previous = KEYS[1], ARGV[1]
local last_id, last_milliseconds, last = '', -1, -1
local deleted = 0

local function parts_of(event_id)
  local milliseconds, sequence = string.match(event_id, '^(%d+)%-(%d+)$')
  return tonumber(milliseconds), tonumber(sequence)
end

local function stream_ends_with(event_id)
  last_id = event_id
  last_milliseconds, last = parts_of(event_id)
end

local function delete_stream()
  redis.call('UNLINK', key)
  last_id, last_milliseconds, last = '', -1, -1
  deleted = 1
end

-- XINFO copies the first entry too, which may be large: the last one is looked at first.
local function read_end_of_stream()
  local kind = redis.call('TYPE', key)['ok']
  if kind == 'none' then
    return
  end
  if kind ~= 'stream' then
    return delete_stream()
  end
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if newest and newest[1] == previous then
    return stream_ends_with(previous)
  end
  local facts = redis.call('XINFO', 'STREAM', key)
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then
      stream_ends_with(facts[i + 1])
    end
  end
end

-- Whether the stream holds this event, of a sequence up to its last, or was trimmed past it.
local function holds(event_id, message)
  local milliseconds, sequence = parts_of(event_id)
  if event_id ~= last_id and (sequence == last or milliseconds > last_milliseconds) then
    return false
  end
  local entry = redis.call('XRANGE', key, event_id, event_id)[1]
  if entry then
    return not message or (entry[2][1] == 'message' and entry[2][2] == message)
  end
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return true
  end
  local _, first = parts_of(oldest[1])
  return sequence < first
end

read_end_of_stream()

local may_begin = previous == 'none'
if may_begin then
  if ARGV[2] and last >= 0 then
    local _, first = parts_of(ARGV[2])
    if first > last then
      delete_stream()
    end
  end
elseif previous ~= last_id then
  local _, sequence = parts_of(previous)
  if sequence > last then
    return {last_id, 1, deleted}
  end
  if not holds(previous) then
    delete_stream()
    return {last_id, 1, deleted}
  end
end

for i = 2, #ARGV, 2 do
  local event_id, message = ARGV[i], ARGV[i + 1]
  local _, sequence = parts_of(event_id)
  if sequence <= last and not holds(event_id, message) then
    delete_stream()
  end
  if sequence > last then
    if sequence > last + 1 and not (may_begin and i == 2) then
      return {last_id, 1, deleted}
    end
    redis.call('XADD', key, event_id, 'message', message)
    redis.call('SPUBLISH', key, message)
    stream_ends_with(event_id)
  end
end
return {last_id, 0, deleted}
