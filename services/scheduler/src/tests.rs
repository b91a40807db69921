//! Histories told to the scheduler, and what it answers.
