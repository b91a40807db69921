//! The agent's promises: what it holds agrees with what the server wants, no outcome is lost, a set-up is made
//! once. May not: know how the agent is built inside.

mod outbox;
mod reconcile;
