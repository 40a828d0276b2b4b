"""The main job as a demonstration: real servers, workers, a load, faults."""
