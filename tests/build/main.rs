//! Building images: COPY and its rules, RUN in the real executor, the cache, wrong Containerfiles, and images
//! from containers. May not: need a network.

mod caching;
mod commits;
mod copying;
mod golden;
mod hostile;
mod place;
mod running;
