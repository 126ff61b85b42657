"""Other people's way to do the Learner's job, written as their experts would. Each imports its library on use."""
