//! The command line of `exec` and `bench`: containers by hand. May not: do anything.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(ClapArgs, Debug)]
pub(crate) struct ExecArgs {
    /// name:tag in this machine's store, or registry/name[:tag] to pull
    pub(crate) image: String,
    /// A variable; without =V its value here is taken
    #[arg(long, short, value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// A named volume, or an absolute directory of this host; MODE is rw or ro
    #[arg(long, value_name = "NAME:PATH[:MODE]")]
    pub(crate) volume: Vec<String>,
    /// Its own empty one, or this host's
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    pub(crate) network: NetworkChoice,
    /// Who runs it: name or uid[:gid]; default: the image's
    #[arg(long, short, value_name = "U")]
    pub(crate) user: Option<String>,
    /// Working directory; default: the image's
    #[arg(long, short, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Memory at most, like 512MiB
    #[arg(long, short, value_name = "M")]
    pub(crate) memory: Option<String>,
    /// Processors at most, like 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Processes and threads at once at most
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<u64>,
    /// Bytes that it may write to its root, like 1GiB
    #[arg(long, value_name = "D")]
    pub(crate) disk: Option<String>,
    /// Files open at once in each process
    #[arg(long, value_name = "N")]
    pub(crate) files: Option<u64>,
    /// What is kept of its output, like 16MiB
    #[arg(long, value_name = "O")]
    pub(crate) output: Option<String>,
    /// Ends it after so long, like 10m (exit status 124)
    #[arg(long, value_name = "T")]
    pub(crate) timeout: Option<String>,
    /// Keep what it changed as an image of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) commit: Option<String>,
    /// The command; default: the image's
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    None,
    Host,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum BenchCommand {
    /// Starts of containers: time and rate
    Start(BenchStartArgs),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BenchStartArgs {
    /// The image; it must have the command `true`
    #[arg(long, value_name = "I")]
    pub(crate) image: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) count: u32,
    /// How many at once
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub(crate) concurrency: u32,
    /// Say how each one's time was spent
    #[arg(long)]
    pub(crate) trace: bool,
}
