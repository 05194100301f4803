//! Reading: the codec is told by the first bytes, never by a name.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use crate::tar::{TarError, TarLimits, TarReader};

/// The forms a stream can come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Plain,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .xz format.
    Xz,
    /// RFC 8878.
    Zstd,
}

/// The longest of the magic numbers.
const MAGIC_LENGTH: usize = 6;
/// Memory an xz stream may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 192 << 20;
/// 2 to this power is the largest window a zstd frame may ask for, as the reference's decoder allows.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Codec {
    /// Tells the codec from the first bytes of a stream.
    #[must_use]
    pub fn detect(head: &[u8]) -> Self {
        let starts = |magic: &[u8]| head.starts_with(magic);
        if starts(&[0x1f, 0x8b, 0x08]) {
            Self::Gzip
        } else if starts(b"BZh") {
            Self::Bzip2
        } else if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Self::Xz
        } else if starts(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_zstd(head) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// zstd allows frames without data before the first real one.
fn is_skippable_zstd(head: &[u8]) -> bool {
    head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]
}

/// A decompressed view of a stream in any [`Codec`]; gzip of several members and zstd of several frames are read whole.
pub struct Decoder<'a> {
    codec: Codec,
    inner: Box<dyn Read + Send + 'a>,
}

impl<'a> Decoder<'a> {
    /// Looks at the first bytes and sets up the codec they tell.
    pub fn new(mut stream: impl Read + Send + 'a) -> io::Result<Self> {
        let mut head = Vec::with_capacity(MAGIC_LENGTH);
        stream.by_ref().take(MAGIC_LENGTH as u64).read_to_end(&mut head)?;
        let codec = Codec::detect(&head);
        let stream = BufReader::with_capacity(128 << 10, Cursor::new(head).chain(stream));
        Ok(Self { codec, inner: open(codec, stream)? })
    }

    /// Returns the codec that was found.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }
}

fn open<'a>(codec: Codec, stream: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match codec {
        Codec::Plain => Box::new(stream),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        Codec::Xz => {
            let stream_decoder =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, stream_decoder))
        }
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

/// Returns whether a stream is a tar in any [`Codec`]: whether, decompressed, it starts with the header of a member.
///
/// This is what ADD goes by; the name of the file does not matter, and a tar without members is none.
pub fn is_archive(stream: impl Read + Send) -> bool {
    let Ok(decoder) = Decoder::new(stream) else { return false };
    let limits = TarLimits::default();
    match TarReader::new(decoder, &limits).next_member() {
        Ok(first) => first.is_some(),
        // It is one, though not of ours: unpacking it will say so.
        Err(error) => matches!(error, TarError::Unsupported { .. }),
    }
}
