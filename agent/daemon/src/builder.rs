//! Runs the commands of an image's build in containers of this host. May not: know what a Containerfile is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use regatta_image::build::{Step, StepRunner};
use regatta_model::container::{Ending, Limits, Writable};

use crate::Layout;
use crate::exec::{self, Error};
use crate::executor::Link;
use crate::mould::{self, Defaults, OUTPUT_BYTES, Order, Program};

/// When a command of a build must have ended, in milliseconds: two hours.
const TIMEOUT_MS: u64 = 7_200_000;

/// Runs the steps of builds.
#[derive(Debug)]
pub struct ExecutorRunner {
    layout: Layout,
    link: Arc<Link>,
    steps: AtomicU64,
}

impl ExecutorRunner {
    /// A runner over this executor.
    pub fn new(layout: Layout, link: Arc<Link>) -> Self {
        Self {
            layout,
            link,
            steps: AtomicU64::new(0),
        }
    }

    fn run_step(&self, step: Step<'_>) -> Result<Ending, Error> {
        let place = exec::Place::new(&self.layout)?;
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        let output = step.output;
        let spec = mould::container(Order {
            id: format!("b-{}-{number}", place.name()),
            defaults: &Defaults::default(),
            layers: step.layers,
            program: Program::Exactly(step.argv),
            env: step.env,
            user: &step.user,
            workdir: Some(&step.workdir),
            network: step.network,
            mounts: step.mounts,
            limits: Limits {
                output_bytes: OUTPUT_BYTES,
                ..Limits::default()
            },
            writable: Writable::Keep {
                directory: step.keep,
            },
            timeout_ms: TIMEOUT_MS,
            log: place.log(),
            lease_ms: Some(exec::LEASE_MS),
        })?;
        // Nobody signals a step; the build as a whole is interrupted by its process's end.
        let (_signals, signalled) = channel();
        let mut pass = |_, bytes: &[u8]| -> io::Result<()> {
            output(bytes);
            Ok(())
        };
        Ok(exec::to_end(&self.link, spec, &mut pass, &signalled)?.ending)
    }
}

impl StepRunner for ExecutorRunner {
    fn run(&self, step: Step<'_>) -> Result<Ending, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.run_step(step)?)
    }
}
