//! gzip, compressed in parallel, the same bytes whatever the number of threads.
//!
//! The input is cut into blocks of [`BLOCK_SIZE`], and each is compressed by itself to a gzip member: members in a row are one gzip
//! file (RFC 1952, 2.2). A member tells no time, no name and no operating system.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};

/// Bytes of a member; part of the format.
pub(super) const BLOCK_SIZE: usize = 1 << 20;

/// Compresses what is written to it; [`GzipEncoder::finish`] must be called.
#[derive(Debug)]
pub struct GzipEncoder<W> {
    out: W,
    block: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    pending: VecDeque<Receiver<io::Result<Done>>>,
    most_pending: usize,
    /// Buffers to be used again.
    blocks: Vec<Vec<u8>>,
    members: Vec<Vec<u8>>,
    has_member: bool,
    workers: Vec<JoinHandle<()>>,
}

struct Job {
    block: Vec<u8>,
    /// Room for the member.
    member: Vec<u8>,
    done: SyncSender<io::Result<Done>>,
}

struct Done {
    block: Vec<u8>,
    member: Vec<u8>,
    /// Length of what was made, at the start of `member`.
    length: usize,
}

impl<W: Write> GzipEncoder<W> {
    /// Writes to `out`, and starts `threads` (at least one) workers; `level` is 0 (stored) to 9.
    pub fn new(out: W, level: u32, threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        let level = i32::try_from(level.min(9)).map_err(io::Error::other)?;
        let level = CompressionLvl::new(level).map_err(|_| io::Error::other("gzip has no such level"))?;
        let workers = (0..threads).map(|_| worker(queue.clone(), level)).collect::<io::Result<_>>()?;
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK_SIZE),
            jobs: Some(jobs),
            pending: VecDeque::new(),
            most_pending: 2 * threads,
            blocks: Vec::new(),
            members: Vec::new(),
            has_member: false,
            workers,
        })
    }

    /// Writes everything that is left, and returns the writer.
    pub fn finish(mut self) -> io::Result<W> {
        // Nothing at all is a member too.
        if !self.block.is_empty() || !self.has_member {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.write_first()?;
        }
        self.jobs = None;
        for worker in std::mem::take(&mut self.workers) {
            worker.join().map_err(|_| io::Error::other("a compression thread panicked"))?;
        }
        Ok(self.out)
    }

    fn submit(&mut self) -> io::Result<()> {
        while self.pending.len() >= self.most_pending {
            self.write_first()?;
        }
        let next = self.blocks.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_SIZE));
        let block = std::mem::replace(&mut self.block, next);
        let member = self.members.pop().unwrap_or_default();
        let (done, result) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("jobs are accepted until the end");
        jobs.send(Job { block, member, done })
            .map_err(|_| io::Error::other("the compression threads are gone"))?;
        self.pending.push_back(result);
        self.has_member = true;
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else { return Ok(()) };
        let Done { mut block, member, length } =
            result.recv().map_err(|_| io::Error::other("a compression thread is gone"))??;
        self.out.write_all(&member[..length])?;
        block.clear();
        self.blocks.push(block);
        self.members.push(member);
        Ok(())
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_SIZE - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_SIZE {
            self.submit()?;
        }
        Ok(taken)
    }

    /// Does nothing: where the stream could be flushed must not depend on the caller.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker(queue: Arc<Mutex<Receiver<Job>>>, level: CompressionLvl) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("gzip".to_owned()).spawn(move || {
        let mut compressor = Compressor::new(level);
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { block, mut member, done }) = job else { return };
            member.resize(compressor.gzip_compress_bound(BLOCK_SIZE), 0);
            let length = compressor.gzip_compress(&block, &mut member).map_err(io::Error::other);
            // The encoder may have been dropped after an error; then nobody waits for this block.
            let _ = done.send(length.map(|length| Done { block, member, length }));
        }
    })
}
