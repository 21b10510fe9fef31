"""The two stages of the scoring, without the rest of the composition: a worker on Kafka starts with little more."""

from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions

STAGES = (TrackSessions, ScoreLeads)
SOURCE_BY_STAGE = {stage.name: stage.source for stage in STAGES}
"""Stage -> the topic that it folds."""
