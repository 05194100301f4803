//! zstd, always through its multi-worker encoder: the same bytes with one worker or many, but others than without any.

use std::io::{self, Write};

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

/// Bytes compressed at a time, each with the end of those before; part of the format. A worker's memory is some of them.
const JOB_SIZE: u32 = 2 << 20;

/// Compresses what is written to it; [`ZstdEncoder::finish`] must be called.
pub struct ZstdEncoder<W: Write>(Encoder<'static, W>);

impl<W: Write> ZstdEncoder<W> {
    /// Starts `workers` (at least one) threads; `level` is as of the `zstd` command, 3 being usual.
    pub fn new(out: W, level: i32, workers: u32) -> io::Result<Self> {
        let mut encoder = Encoder::new(out, level)?;
        encoder.multithread(workers.max(1))?;
        encoder.set_parameter(CParameter::JobSize(JOB_SIZE))?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Writes everything that is left and returns the writer.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for ZstdEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Does nothing: where the stream could be flushed must not depend on the caller.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> std::fmt::Debug for ZstdEncoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ZstdEncoder")
    }
}
