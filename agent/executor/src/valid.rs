//! Is this specification one that an executor can take? May not: look at the host.

use regatta_model::container::{ContainerSpec, Writable};

use crate::users::RANGE;
use crate::zygote::LAYERS_MOST;

/// Mounts of one container at most.
const MOUNTS_MOST: usize = 64;
/// Length of a container's name.
const NAME_MOST: usize = 128;
/// Length of a host name; the kernel's limit.
const HOSTNAME_MOST: usize = 64;
/// Further groups at most; the kernel's limit is far higher.
const GROUPS_MOST: usize = 256;
/// Where nothing can be mounted: the executor makes these itself.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Whether a container may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_MOST).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Says in a sentence what is wrong.
pub(crate) fn check(spec: &ContainerSpec) -> Result<(), String> {
    let id = &spec.id;
    if !is_name(id) {
        return Err(format!(
            "{id:?} is no name for a container: 1 to {NAME_MOST} letters, digits, `-`, `_`, `.`, and no `.` first"
        ));
    }
    if spec.layers.is_empty() || spec.layers.len() >= LAYERS_MOST {
        return Err(format!(
            "container {id}: it has {} layers; 1 to {} are possible",
            spec.layers.len(),
            LAYERS_MOST - 1
        ));
    }
    if spec.hostname.is_empty() || spec.hostname.len() > HOSTNAME_MOST {
        return Err(format!(
            "container {id}: its host name must have 1 to {HOSTNAME_MOST} bytes"
        ));
    }
    process(spec)?;
    mounts(spec)?;
    if let Writable::Keep { directory } = &spec.writable {
        let name = directory
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !directory.is_absolute() || name.is_empty() || name.contains([',', ':', '\\']) {
            return Err(format!(
                "container {id}: a layer cannot be kept as {}: an absolute path whose last part has no `,`, `:` or `\\`, please",
                directory.display()
            ));
        }
    }
    let paths = spec
        .layers
        .iter()
        .chain(spec.mounts.iter().map(|mount| &mount.source));
    for path in paths.chain([&spec.log]) {
        if !path.is_absolute() {
            return Err(format!(
                "container {id}: {} is not an absolute path",
                path.display()
            ));
        }
    }
    Ok(())
}

fn process(spec: &ContainerSpec) -> Result<(), String> {
    let id = &spec.id;
    let process = &spec.process;
    if process.argv.first().is_none_or(String::is_empty) {
        return Err(format!("container {id}: it has no program to run"));
    }
    if !is_plain(&process.workdir) {
        return Err(format!(
            "container {id}: its working directory {:?} is not an absolute path without `..`",
            process.workdir
        ));
    }
    let texts = process
        .argv
        .iter()
        .chain(process.env.iter().flat_map(|(name, value)| [name, value]));
    if texts
        .chain([&spec.hostname])
        .any(|text| text.contains('\0'))
    {
        return Err(format!(
            "container {id}: a NUL byte in its arguments or environment"
        ));
    }
    if let Some((name, _)) = process
        .env
        .iter()
        .find(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(format!(
            "container {id}: {name:?} cannot be the name of an environment variable"
        ));
    }
    if process.groups.len() > GROUPS_MOST {
        return Err(format!("container {id}: more than {GROUPS_MOST} groups"));
    }
    if let Some(number) = [process.uid, process.gid]
        .iter()
        .chain(&process.groups)
        .find(|number| **number >= RANGE)
    {
        return Err(format!(
            "container {id}: user or group id {number} is above {}, the highest in a container",
            RANGE - 1
        ));
    }
    Ok(())
}

fn mounts(spec: &ContainerSpec) -> Result<(), String> {
    let id = &spec.id;
    if spec.mounts.len() > MOUNTS_MOST {
        return Err(format!("container {id}: more than {MOUNTS_MOST} mounts"));
    }
    for mount in &spec.mounts {
        let target = &mount.target;
        if !is_plain(target) || target.trim_end_matches('/').is_empty() {
            return Err(format!(
                "container {id}: it cannot have a mount at {target:?}: an absolute path without `..`, and not `/`, please"
            ));
        }
        let with_slash = format!("{}/", target.trim_end_matches('/'));
        if let Some(reserved) = RESERVED
            .iter()
            .find(|reserved| with_slash.starts_with(&format!("{reserved}/")))
        {
            return Err(format!(
                "container {id}: it cannot have a mount at {target}: {reserved} is the container's own"
            ));
        }
    }
    Ok(())
}

/// Absolute, and the same however it is read.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && !path.contains("//")
        && !path.split('/').any(|part| part == ".." || part == ".")
}
