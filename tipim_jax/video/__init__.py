"""Films and animations: faces tracked from frame to frame, and one mask a track that is carried along."""
