//! OCI images: the store on disk, archives, unpacking, the registry client, and building.
//!
//! For: keeping images by content, verified and shared, in the form that an executor mounts.
//! May depend on: model. It starts no container itself: building is given a runner for its steps.
//!
//! Architecture Invariant: a blob stands under its digest only after all its bytes were verified, and a
//! layer stands under its diffID only after it was unpacked whole and written to disk.
//! Architecture Invariant: nothing that an archive or a registry says is used as a path of this host.
//! All access while unpacking goes through descriptors of directories below the layer's own root.
//! Architecture Invariant: several processes may use one store at once; what a dead one left is swept
//! by the next one that opens it.

pub mod archive;
pub mod build;
pub mod commit;
pub mod compression;
mod error;
pub mod limits;
mod merged;
pub mod passwd;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod store;
mod tarfile;
pub mod unpack;

pub use error::{Error, Result};
pub use limits::UnpackLimits;
pub use merged::{Found, Merged};
pub use platform::Platform;
pub use progress::{Progress, Silent, Task};
pub use store::{Blob, Manifest, Store};
