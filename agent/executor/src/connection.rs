//! A client's connection: frames in, frames out, never waiting, never more than its bounds. May not:
//! understand a request.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use regatta_model::container::{MESSAGE_MOST, Message, Numbered, Request};

/// Bytes that wait for a client that does not read; a client beyond that is cut off.
const WAITING_MOST: usize = 4 * MESSAGE_MOST;
/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// A client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether it asked to hear of every end.
    pub hears: bool,
    /// Whether something waits until this client reads.
    pub waits: bool,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            hears: false,
            waits: false,
        })
    }

    /// Reads what came, and gives the whole requests in it; an error: this client is to be cut off.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Vec<Numbered<Request>>> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self
                .input
                .extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        let mut requests = Vec::new();
        while let Some(frame) = take_frame(&mut self.input)? {
            requests.push(serde_json::from_slice(&frame)?);
        }
        Ok(requests)
    }

    /// Queues a message.
    pub(crate) fn queue(&mut self, number: u64, body: &Message) -> io::Result<()> {
        let frame = frame(&Numbered {
            number,
            body: body.clone(),
        })?;
        if self.output.len() + frame.len() > WAITING_MOST {
            return Err(io::Error::other("the client does not read"));
        }
        self.output.extend_from_slice(&frame);
        Ok(())
    }

    /// Writes what it can; whether something still waits.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Takes a whole frame off the front; an error for one that is too long.
fn take_frame(input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(length) = input.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MESSAGE_MOST {
        return Err(io::Error::other(format!(
            "a message of {length} bytes; {MESSAGE_MOST} at most"
        )));
    }
    if input.len() < LENGTH + length {
        return Ok(None);
    }
    let frame = input.drain(..LENGTH + length).skip(LENGTH).collect();
    Ok(Some(frame))
}

/// A message as a frame.
pub(crate) fn frame<T: serde::Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; LENGTH];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH;
    if length > MESSAGE_MOST {
        return Err(io::Error::other(format!(
            "a message of {length} bytes; {MESSAGE_MOST} at most"
        )));
    }
    let length = u32::try_from(length)
        .map_err(io::Error::other)?
        .to_le_bytes();
    for (to, from) in frame.iter_mut().zip(length) {
        *to = from;
    }
    Ok(frame)
}

/// Reads one frame, waiting for it; none at a clean end.
pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u64::from(u32::from_le_bytes(length));
    if length > u64::try_from(MESSAGE_MOST).unwrap_or(u64::MAX) {
        return Err(io::Error::other(format!(
            "a message of {length} bytes; {MESSAGE_MOST} at most"
        )));
    }
    let mut frame = Vec::new();
    stream.take(length).read_to_end(&mut frame)?;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_too_long_ones_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        let mut buffer = [0; 7];
        let request = Numbered {
            number: 3,
            body: Request::Stop { id: "a".into() },
        };
        let twice = [frame(&request).unwrap(), frame(&request).unwrap()].concat();
        let mut got = Vec::new();
        for piece in twice.chunks(7) {
            theirs.write_all(piece).unwrap();
            got.extend(connection.read(&mut buffer).unwrap());
        }
        assert_eq!(got, [request.clone(), request]);
        theirs.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(connection.read(&mut buffer).is_err());
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_off() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours).unwrap();
        let big = Message::Refused {
            message: "x".repeat(MESSAGE_MOST / 2),
        };
        let mut sent = 0;
        while connection.queue(0, &big).is_ok() {
            connection.write().unwrap();
            sent += 1;
            assert!(sent < 100);
        }
        assert!(sent > 4);
    }
}
