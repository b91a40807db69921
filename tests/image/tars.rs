//! Tar archives made byte by byte, honest and hostile ones. May not: use the code that is tested.

use std::io::Write as _;

/// One header and its content.
#[derive(Clone, Debug)]
pub struct Head {
    pub name: Vec<u8>,
    pub flag: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    /// What the size field says, where that is not the content's length.
    pub size: Option<u64>,
    pub content: Vec<u8>,
    /// Bytes put over the header before its checksum is taken.
    pub patches: Vec<(usize, Vec<u8>)>,
}

impl Head {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        Self {
            name: name.as_ref().to_vec(),
            flag,
            mode,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            link: Vec::new(),
            device: (0, 0),
            size: None,
            content: Vec::new(),
            patches: Vec::new(),
        }
    }

    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub fn patch(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.patches.push((at, bytes.as_ref().to_vec()));
        self
    }
}

pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Head {
    Head::new(b'0', name).content(content)
}

pub fn dir(name: impl AsRef<[u8]>) -> Head {
    Head::new(b'5', name)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Head {
    Head::new(b'2', name).link(target).mode(0o777)
}

pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Head {
    Head::new(b'1', name).link(target)
}

/// An extended header of these records.
pub fn pax(records: &[(&str, &[u8])]) -> Head {
    Head::new(b'x', "PaxHeaders/x").content(pax_records(records))
}

pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        write!(bytes, "{length} {key}=").unwrap();
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// The bytes of one entry, padded.
pub fn entry(head: &Head) -> Vec<u8> {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let name = &head.name[..head.name.len().min(100)];
    put(0, name);
    put(100, format!("{:07o}\0", head.mode).as_bytes());
    put(108, format!("{:07o}\0", head.uid).as_bytes());
    put(116, format!("{:07o}\0", head.gid).as_bytes());
    let size = head.size.unwrap_or(head.content.len() as u64);
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", head.mtime).as_bytes());
    put(148, b"        ");
    put(156, &[head.flag]);
    put(157, &head.link[..head.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", head.device.0).as_bytes());
    put(337, format!("{:07o}\0", head.device.1).as_bytes());
    for (at, bytes) in &head.patches {
        put(*at, bytes);
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(&head.content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A whole archive. Names above 100 bytes get an extended header.
pub fn tar(heads: &[Head]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for head in heads {
        if head.name.len() > 100 {
            bytes.extend(entry(&pax(&[("path", &head.name)])));
        }
        bytes.extend(entry(head));
    }
    bytes.extend([0; 1024]);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
