"""What a training is made of: optimisers, schedules, losses, augmentations and trainers, each one definition."""
