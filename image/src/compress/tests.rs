use std::io::Read;

use super::*;

/// Text-like bytes that differ along the way, longer than three gzip blocks.
fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut state = 1u32;
    while bytes.len() < 3 * gzip::BLOCK_SIZE + 12_345 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(format!("line {} of the sample\n", state >> 20).as_bytes());
    }
    bytes
}

fn gzip(bytes: &[u8], threads: usize, piece: usize) -> Vec<u8> {
    gzip_level(bytes, 6, threads, piece)
}

fn gzip_level(bytes: &[u8], level: u32, threads: usize, piece: usize) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new(), level, threads).unwrap();
    bytes.chunks(piece).for_each(|piece| encoder.write_all(piece).unwrap());
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8], workers: u32, piece: usize) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new(), 3, workers).unwrap();
    bytes.chunks(piece).for_each(|piece| encoder.write_all(piece).unwrap());
    encoder.finish().unwrap()
}

fn decoded(bytes: &[u8]) -> (Codec, Vec<u8>) {
    let mut decoder = Decoder::new(bytes).unwrap();
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).unwrap();
    (decoder.codec(), out)
}

#[test]
fn gzip_has_the_same_bytes_at_any_number_of_threads() {
    let bytes = sample();
    let one = gzip(&bytes, 1, 4096);
    for (threads, piece) in [(1, 777), (2, 1 << 20), (4, 10_000_000)] {
        assert!(gzip(&bytes, threads, piece) == one, "{threads} threads, pieces of {piece}");
    }
    assert_eq!(decoded(&one), (Codec::Gzip, bytes.clone()));
    assert!(one.len() < bytes.len() / 3);
    assert_eq!(
        ContentDigest::of(&one).to_string(),
        "sha256:923aa332eaf0d3e387e5bb8edb2330a3a1871cb395e66304e721d2d70c3a8b37",
        "the gzip format changed: that needs a new version of it"
    );
}

#[test]
fn the_usual_level_is_pinned() {
    let bytes = sample();
    let one = gzip_level(&bytes, 1, 1, 4096);
    assert!(gzip_level(&bytes, 1, 3, 1 << 19) == one);
    assert_eq!(decoded(&one), (Codec::Gzip, bytes));
    assert_eq!(
        ContentDigest::of(&one).to_string(),
        "sha256:2884a6f2cea64dc4bf53c7d700e2e10c5e137f1c2b7dd9bfd46a3c52138e3e50",
        "the gzip format changed: that needs a new version of it"
    );
}

#[test]
fn gzip_of_nothing_and_of_whole_blocks_can_be_read() {
    for length in [0, 1, gzip::BLOCK_SIZE, 2 * gzip::BLOCK_SIZE] {
        let bytes = vec![b'x'; length];
        assert_eq!(decoded(&gzip(&bytes, 2, 1 << 16)), (Codec::Gzip, bytes));
    }
}

#[test]
fn zstd_has_the_same_bytes_at_any_number_of_workers() {
    let bytes = sample();
    let one = zstd(&bytes, 1, 4096);
    for (workers, piece) in [(0, 4096), (2, 1 << 20), (4, 777)] {
        assert!(zstd(&bytes, workers, piece) == one, "{workers} workers, pieces of {piece}");
    }
    assert_eq!(decoded(&one), (Codec::Zstd, bytes));
    assert_eq!(
        ContentDigest::of(&one).to_string(),
        "sha256:c89ce9ba3a96df9f1179e9964f7af0a9b1a231c9e7bc204a7abf653408ff1c06",
        "the zstd format changed: that needs a new version of it"
    );
}

#[test]
fn every_codec_is_read_whole() {
    let bytes = b"some bytes that are worth a stream".repeat(100);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&bytes).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&bytes).unwrap();
    let streams = [
        (Codec::Plain, bytes.clone()),
        (Codec::Gzip, gzip(&bytes, 1, 100)),
        (Codec::Bzip2, bzip2.finish().unwrap()),
        (Codec::Xz, xz.finish().unwrap()),
        (Codec::Zstd, zstd(&bytes, 1, 100)),
    ];
    for (codec, stream) in streams {
        assert_eq!(decoded(&stream), (codec, bytes.clone()));
        if codec != Codec::Plain {
            let twice = [stream.clone(), stream.clone()].concat();
            assert_eq!(decoded(&twice), (codec, bytes.repeat(2)), "{codec:?} of several parts");
            let cut = Decoder::new(&stream[..stream.len() - 5]).unwrap().read_to_end(&mut Vec::new());
            assert!(cut.is_err(), "{codec:?} that is cut off");
        }
    }
}

#[test]
fn an_archive_is_told_by_its_content() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    builder.append_data(&mut header, "name", [].as_slice()).unwrap();
    let tar = builder.into_inner().unwrap();
    assert!(is_archive(tar.as_slice()));
    assert!(is_archive(gzip(&tar, 1, 100).as_slice()));
    assert!(is_archive(zstd(&tar, 1, 100).as_slice()));
    let empty_tar = vec![0; 1024];
    for other in
        [&b""[..], b"text", &empty_tar, &gzip(&empty_tar, 1, 100), &gzip(b"", 1, 1), &gzip(b"text", 1, 1)]
    {
        assert!(!is_archive(other));
    }
}

#[test]
fn the_digest_is_of_what_was_written() {
    let mut writer = DigestWriter::new(Vec::new());
    writer.write_all(b"ab").unwrap();
    writer.write_all(b"c").unwrap();
    let (bytes, digest, size) = writer.finish();
    assert_eq!((bytes.as_slice(), size), (&b"abc"[..], 3));
    assert_eq!(digest, ContentDigest::of(b"abc"));
}
