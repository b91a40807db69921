//! The agent's promises: what it holds agrees with what the server wants, no outcome is lost, a set-up is made
//! once, and nothing that a test left behind can lead the agent astray. May not: know how the agent is built inside.

mod collect;
mod interrupted;
mod killed;
mod layers;
mod mould;
mod observe;
mod outbox;
mod reconcile;
mod setup;
