//! One gzip member, compressed in parallel, the same bytes whatever the number of threads.
//!
//! The input is cut into blocks of [`BLOCK_SIZE`]. Each is compressed by itself with the 32 KiB before it as dictionary, and ends
//! on a byte boundary with an empty stored block (a “sync flush”); the last one ends the stream. Joined in order they are one
//! deflate stream. The header is written by hand: no time, no name, no operating system.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes compressed at a time; part of the format.
pub(super) const BLOCK_SIZE: usize = 1 << 20;
/// How far back deflate looks.
const DICTIONARY_SIZE: usize = 32 << 10;
/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it; [`GzipEncoder::finish`] must be called.
#[derive(Debug)]
pub struct GzipEncoder<W> {
    out: W,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    pending: VecDeque<Receiver<io::Result<Compressed>>>,
    most_pending: usize,
    workers: Vec<JoinHandle<()>>,
    crc: Crc,
}

struct Job {
    block: Vec<u8>,
    dictionary: Vec<u8>,
    flush: Flush,
    done: SyncSender<io::Result<Compressed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// More follows.
    Sync,
    /// The end of the stream.
    Finish,
}

struct Compressed {
    bytes: Vec<u8>,
    crc: Crc,
}

/// A level from 0 (stored) to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level(u32);

impl<W: Write> GzipEncoder<W> {
    /// Writes the header to `out` and starts `threads` (at least one) workers; `level` is 0 to 9.
    pub fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        let level = Level(level.min(9));
        let workers = (0..threads).map(|_| worker(queue.clone(), level)).collect::<io::Result<_>>()?;
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK_SIZE),
            dictionary: Vec::new(),
            jobs: Some(jobs),
            pending: VecDeque::new(),
            most_pending: 2 * threads,
            workers,
            crc: Crc::new(),
        })
    }

    /// Writes everything that is left and the trailer, and returns the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.submit(Flush::Finish)?;
        while !self.pending.is_empty() {
            self.write_first()?;
        }
        self.jobs = None;
        for worker in std::mem::take(&mut self.workers) {
            worker.join().map_err(|_| io::Error::other("a compression thread panicked"))?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn submit(&mut self, flush: Flush) -> io::Result<()> {
        while self.pending.len() >= self.most_pending {
            self.write_first()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_SIZE));
        let dictionary = std::mem::take(&mut self.dictionary);
        if flush == Flush::Sync {
            self.dictionary = block[block.len().saturating_sub(DICTIONARY_SIZE)..].to_vec();
        }
        let (done, result) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("jobs are accepted until the end");
        jobs.send(Job { block, dictionary, flush, done })
            .map_err(|_| io::Error::other("the compression threads are gone"))?;
        self.pending.push_back(result);
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else { return Ok(()) };
        let compressed = result.recv().map_err(|_| io::Error::other("a compression thread is gone"))??;
        self.crc.combine(&compressed.crc);
        self.out.write_all(&compressed.bytes)
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_SIZE - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_SIZE {
            self.submit(Flush::Sync)?;
        }
        Ok(taken)
    }

    /// Does nothing: where the stream could be flushed must not depend on the caller.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker(queue: Arc<Mutex<Receiver<Job>>>, level: Level) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("gzip".to_owned()).spawn(move || {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            // The encoder may have been dropped after an error; then nobody waits for this block.
            let _ = job.done.send(compress(&job, level));
        }
    })
}

fn compress(job: &Job, level: Level) -> io::Result<Compressed> {
    let mut crc = Crc::new();
    crc.update(&job.block);
    let mut deflate = Compress::new(Compression::new(level.0), false);
    if !job.dictionary.is_empty() {
        deflate.set_dictionary(&job.dictionary).map_err(io::Error::other)?;
    }
    let flush = match job.flush {
        Flush::Sync => FlushCompress::Sync,
        Flush::Finish => FlushCompress::Finish,
    };
    let mut bytes = Vec::with_capacity(job.block.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status =
            deflate.compress_vec(&job.block[taken..], &mut bytes, flush).map_err(io::Error::other)?;
        let all_taken = deflate.total_in() == job.block.len() as u64;
        let room_left = bytes.len() < bytes.capacity();
        match job.flush {
            Flush::Finish if status == Status::StreamEnd => return Ok(Compressed { bytes, crc }),
            Flush::Sync if all_taken && room_left => return Ok(Compressed { bytes, crc }),
            _ => bytes.reserve(64 << 10),
        }
    }
}
