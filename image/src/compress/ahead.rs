//! Reading on a thread of its own, some pieces ahead of whoever uses them.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

const PIECE: usize = 256 * 1024;
/// Pieces that may wait.
const WAITING: usize = 4;

/// A stream that is read ahead, so that decompressing goes on while what came is looked at.
#[derive(Debug)]
pub struct ReadAhead {
    pieces: Receiver<io::Result<Piece>>,
    /// Takes pieces back, to be filled again.
    used: SyncSender<Vec<u8>>,
    now: Piece,
    /// How much of the piece was read.
    at: usize,
}

/// The first `filled` bytes are of the stream.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    filled: usize,
}

impl ReadAhead {
    /// Reads `stream` until it ends, fails, or nobody wants the next piece.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, mut stream: impl Read + Send + 'scope) -> Self {
        let (ready, pieces) = sync_channel(WAITING);
        let (used, free) = sync_channel::<Vec<u8>>(WAITING);
        scope.spawn(move || {
            loop {
                let mut bytes = free.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
                let piece = fill(&mut stream, &mut bytes).map(|filled| Piece { bytes, filled });
                let is_last = !matches!(&piece, Ok(piece) if piece.filled == PIECE);
                if ready.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        Self { pieces, used, now: Piece::default(), at: 0 }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.now.filled {
            // A stream that has ended has no more pieces.
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let earlier = std::mem::replace(&mut self.now, next?);
            self.at = 0;
            if !earlier.bytes.is_empty() {
                // Nobody may be there to take it any more, and then it is freed.
                let _ = self.used.try_send(earlier.bytes);
            }
        }
        let rest = &self.now.bytes[self.at..self.now.filled];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends in an error.
    struct Failing<'a>(&'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                count => Ok(count),
            }
        }
    }

    #[test]
    fn all_of_a_stream_arrives_and_so_does_its_error() {
        for length in [0, 1, PIECE - 1, PIECE, 11 * PIECE + 3] {
            let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            let mut read = Vec::new();
            std::thread::scope(|scope| ReadAhead::start(scope, &bytes[..]).read_to_end(&mut read)).unwrap();
            assert!(read == bytes, "{length}");
            let failed = std::thread::scope(|scope| {
                io::copy(&mut ReadAhead::start(scope, Failing(&bytes)), &mut io::sink())
            });
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn who_stops_reading_does_not_wait_for_the_rest() {
        let read = std::thread::scope(|scope| {
            let mut first = [0; 3];
            ReadAhead::start(scope, io::repeat(7)).read_exact(&mut first).map(|()| first)
        });
        assert_eq!(read.unwrap(), [7; 3]);
    }
}
