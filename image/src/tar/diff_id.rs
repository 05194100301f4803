//! The digest of a tar while it is written or read.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use super::write::{Pieces, write_pieces};
use super::{TarOptions, WriteTarError};
use crate::DiffId;
use crate::index::{Entry, LayerIndex};

/// Bytes that are hashed in one go, by the thread if there are more.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait for the thread.
const WAITING: usize = 4;

/// Returns the digest of the canonical tar of `index`; `open` gives the bytes of a file that has any.
pub fn diff_id<R: Read>(
    index: &LayerIndex,
    open: impl FnMut(&Entry) -> io::Result<R>,
    options: &TarOptions,
) -> Result<DiffId, WriteTarError> {
    let mut hasher = PieceHasher { pending: None, worker: None };
    write_pieces(index, open, &mut hasher, options)?;
    Ok(hasher.finish())
}

/// Hashes pieces where they are: beside the writing, as soon as there are two.
struct PieceHasher {
    pending: Option<(Vec<u8>, usize)>,
    worker: Option<Worker>,
}

impl PieceHasher {
    fn finish(self) -> DiffId {
        let mut hasher = self.worker.map_or_else(Sha256::new, Worker::finish);
        if let Some((piece, filled)) = self.pending {
            hasher.update(&piece[..filled]);
        }
        DiffId::from_bytes(hasher.finalize().into())
    }
}

impl Pieces for PieceHasher {
    fn take(&mut self, piece: &mut Vec<u8>, filled: usize) -> io::Result<()> {
        let empty = self.worker.as_ref().and_then(|worker| worker.empty.try_recv().ok());
        let empty = empty.unwrap_or_else(|| vec![0; piece.len()]);
        if let Some(earlier) = self.pending.replace((std::mem::replace(piece, empty), filled)) {
            self.worker.get_or_insert_with(Worker::start).hash(earlier);
        }
        Ok(())
    }
}

/// Hands on what is written, and hashes it: beside the writing, as soon as there is more than a little.
pub struct DiffIdWriter<W> {
    inner: W,
    pending: Vec<u8>,
    length: u64,
    /// The hashing thread, started for the second chunk.
    worker: Option<Worker>,
}

/// A thread that hashes the beginnings of buffers, and gives them back as they are.
struct Worker {
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Sha256>,
}

impl<W: Write> DiffIdWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, pending: Vec::new(), length: 0, worker: None }
    }

    /// Returns the inner writer, the digest of what was written, and its length.
    pub fn finish(mut self) -> (W, DiffId, u64) {
        let mut hasher = self.worker.take().map_or_else(Sha256::new, Worker::finish);
        hasher.update(&self.pending);
        (self.inner, DiffId::from_bytes(hasher.finalize().into()), self.length)
    }

    fn hand_over(&mut self) {
        let worker = self.worker.get_or_insert_with(Worker::start);
        let mut empty = worker.empty.try_recv().unwrap_or_default();
        empty.clear();
        let chunk = std::mem::replace(&mut self.pending, empty);
        let filled = chunk.len();
        worker.hash((chunk, filled));
    }
}

impl Worker {
    fn start() -> Self {
        let (full, to_hash) = sync_channel::<(Vec<u8>, usize)>(WAITING);
        let (give_back, empty) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || {
            let mut hasher = Sha256::new();
            for (chunk, filled) in to_hash {
                hasher.update(&chunk[..filled]);
                // Nobody may be there to take it any more, and then it is freed.
                let _ = give_back.try_send(chunk);
            }
            hasher
        });
        Self { full, empty, thread }
    }

    fn hash(&self, chunk: (Vec<u8>, usize)) {
        self.full.send(chunk).expect("the thread runs until the channel is closed");
    }

    fn finish(self) -> Sha256 {
        drop(self.full);
        self.thread.join().expect("hashing does not panic")
    }
}

impl<W: Write> Write for DiffIdWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.length += written as u64;
        let mut rest = &bytes[..written];
        while self.pending.len() + rest.len() > CHUNK {
            let (now, later) = rest.split_at(CHUNK - self.pending.len());
            self.pending.extend_from_slice(now);
            self.hand_over();
            rest = later;
        }
        self.pending.extend_from_slice(rest);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is read, beside the reading, as [`DiffIdWriter`] does what is written.
pub struct DiffIdReader<R> {
    inner: R,
    hasher: DiffIdWriter<io::Sink>,
}

impl<R: Read> DiffIdReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: DiffIdWriter::new(io::sink()) }
    }

    /// Reads what is left, and returns the digest of everything that was read.
    pub fn finish(mut self) -> io::Result<DiffId> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finish().1)
    }
}

impl<R: Read> Read for DiffIdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_how_it_was_written() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 3] {
            let bytes: Vec<u8> = (0..length).map(|number| (number % 253) as u8).collect();
            let expected = DiffId::from_bytes(Sha256::digest(&bytes).into());
            for piece in [977, CHUNK, 3 * CHUNK] {
                let mut writer = DiffIdWriter::new(Vec::new());
                bytes.chunks(piece).for_each(|chunk| writer.write_all(chunk).unwrap());
                let (inner, digest, count) = writer.finish();
                assert!(inner == bytes);
                assert_eq!((digest, count), (expected, length as u64));
            }
            let mut reader = DiffIdReader::new(&bytes[..]);
            io::copy(&mut (&mut reader).take(length as u64 / 2), &mut io::sink()).unwrap();
            assert_eq!(reader.finish().unwrap(), expected);
        }
    }
}
