"""From raw footage to captioned, filtered, sharded training clips."""
