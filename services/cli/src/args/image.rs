//! The command line of `image`. May not: do anything.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

#[derive(ClapArgs, Debug)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ImageCommand {
    /// List the images of this machine
    Ls,
    /// Tell all about an image
    Inspect {
        /// name:tag, or sha256:...
        name: String,
    },
    /// Give an image another name
    Tag {
        /// name:tag, or sha256:...
        name: String,
        /// The further name
        new: String,
    },
    /// Remove names, and what only they needed
    Rm {
        /// Names to remove
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove what no name refers to
    Prune,
    /// Fetch an image from a registry
    Pull {
        /// registry/name[:tag][@digest]
        reference: String,
        /// Speak http to a registry that is not on this machine
        #[arg(long)]
        plain_http: bool,
    },
    /// Bring an image to a registry
    Push {
        /// The image's name here
        name: String,
        /// registry/name[:tag]; default: the name itself
        reference: Option<String>,
        /// Speak http to a registry that is not on this machine
        #[arg(long)]
        plain_http: bool,
    },
    /// Make an image of a root filesystem's tar (plain, gzip, zstd, xz)
    Import {
        /// The tar; - reads standard input
        file: PathBuf,
        /// The image's name
        name: String,
    },
    /// Take images from an archive (docker save, or OCI)
    Load {
        /// The archive; - reads standard input
        file: PathBuf,
    },
    /// Write images to an archive
    Save {
        /// Images to write
        #[arg(required = true)]
        names: Vec<String>,
        /// The archive to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// OCI's layout, or what docker load takes
        #[arg(long, value_name = "FORMAT", default_value = "oci")]
        format: ArchiveFormat,
    },
    /// Build an image from a Containerfile
    Build(BuildArgs),
    /// Make an image of the layer that a cell kept (`keep: on-failure`)
    Commit {
        /// The run's id, as `regatta runs` lists it
        run: String,
        /// The cell's number, as reports show it
        cell: u64,
        /// The image's name
        name: String,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveFormat {
    Oci,
    Docker,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BuildArgs {
    /// Default: Containerfile or Dockerfile in DIR
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name the image
    #[arg(long, short, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// A value for an ARG
    #[arg(long, value_name = "K=V")]
    pub(crate) build_arg: Vec<String>,
    /// End with this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Carry out every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// What COPY copies from
    pub(crate) directory: PathBuf,
}
