//! The command line of `host`. May not: do anything.

use clap::{Args as ClapArgs, ValueEnum};

#[derive(ClapArgs, Debug)]
pub(crate) struct HostArgs {
    /// What to decide
    pub(crate) what: HostPolicy,
    /// The host's name
    pub(crate) name: String,
    /// Why, for others to read
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum HostPolicy {
    Drain,
    Resume,
    Cordon,
    Quarantine,
}
