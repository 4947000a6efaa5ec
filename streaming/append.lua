-- Appends an execution's events to its stream and announces them, each once and in order.
--
-- KEYS[1]  the stream, and the channel of its announcements
-- ARGV     event_id, message, event_id, message, … in order of their sequences
--
-- An event whose sequence follows the stream's last is added and announced; one that is
-- there already is skipped; at a gap the script stops. So it may be given any event any
-- number of times, by any number of processes, in any order.
--
-- Returns {last sequence of the stream, or -1; 1 where it stopped at a gap, else 0}.
-- The last id is taken from the stream's record, not from its entries: it outlives trimming.

local function sequence_of(event_id)
  return tonumber(string.match(event_id, '^%d+%-(%d+)$'))
end

local last = -1
if redis.call('EXISTS', KEYS[1]) == 1 then
  local facts = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then
      last = sequence_of(facts[i + 1])
    end
  end
end

for i = 1, #ARGV, 2 do
  local sequence = sequence_of(ARGV[i])
  if sequence > last + 1 then
    return {last, 1}
  end
  if sequence == last + 1 then
    redis.call('XADD', KEYS[1], ARGV[i], 'message', ARGV[i + 1])
    redis.call('PUBLISH', KEYS[1], ARGV[i + 1])
    last = sequence
  end
end
return {last, 0}
