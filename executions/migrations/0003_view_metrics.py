from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('executions', '0002_attempts_and_details'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='execution',
            options={'permissions': (('cancel_execution', 'Can cancel execution'), ('terminate_execution', 'Can terminate execution'), ('view_metrics', 'Can view metrics'))},
        ),
    ]
