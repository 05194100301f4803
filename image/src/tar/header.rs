//! The canonical header of an entry: a ustar block, after a PAX header where that is too small.

use std::collections::BTreeMap;

use ::tar::{EntryType, Header};

/// What one header says.
pub(super) struct Fields<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Option<&'a BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// Key and value of each PAX record, in the order of the keys.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Appends the blocks that come before an entry's bytes.
pub(super) fn put_header(out: &mut Vec<u8>, fields: &Fields<'_>) {
    let mut records = Records::new();
    for (name, value) in fields.xattrs.into_iter().flatten() {
        records.insert([b"SCHILY.xattr.", &name[..]].concat(), value.clone());
    }
    let block = ustar(fields, &mut records);
    if !records.is_empty() {
        put_records(out, &records);
    }
    out.extend_from_slice(block.as_bytes());
}

/// Appends zeros up to a whole number of blocks.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(512), 0);
}

fn put_records(out: &mut Vec<u8>, records: &Records) {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    let fields = Fields {
        kind: EntryType::XHeader,
        path: b"PaxHeaders.0",
        link: b"",
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: body.len() as u64,
        mtime: 0,
        device: (0, 0),
        xattrs: None,
    };
    out.extend_from_slice(ustar(&fields, &mut Records::new()).as_bytes());
    out.extend_from_slice(&body);
    pad(out);
}

/// Forms `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Fills a ustar block; what does not fit goes to `records`.
fn ustar(fields: &Fields<'_>, records: &mut Records) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(fields.kind);
    let uid = fitting("uid", fields.uid.into(), 7, records);
    let gid = fitting("gid", fields.gid.into(), 7, records);
    let size = fitting("size", fields.size.into(), 11, records);
    let mtime = fitting("mtime", fields.mtime.into(), 11, records);
    let ustar = header.as_ustar_mut().expect("the header was made as ustar");
    put_octal(&mut ustar.mode, fields.mode.into());
    put_octal(&mut ustar.uid, uid);
    put_octal(&mut ustar.gid, gid);
    put_octal(&mut ustar.size, size);
    put_octal(&mut ustar.mtime, mtime);
    put_octal(&mut ustar.dev_major, fields.device.0.into());
    put_octal(&mut ustar.dev_minor, fields.device.1.into());
    put_path(&mut ustar.prefix, &mut ustar.name, fields.path, records);
    if !put_text(&mut ustar.linkname, fields.link) {
        records.insert(b"linkpath".to_vec(), fields.link.to_vec());
    }
    header.set_cksum();
    header
}

/// Returns `number` if `digits` octal digits hold it; otherwise it becomes a record and the field is 0.
fn fitting(key: &str, number: i128, digits: u32, records: &mut Records) -> u64 {
    match u64::try_from(number) {
        Ok(fits) if fits < 1 << (3 * digits) => fits,
        _ => {
            records.insert(key.as_bytes().to_vec(), number.to_string().into_bytes());
            0
        }
    }
}

fn put_octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    for (place, digit) in field[..digits].iter_mut().rev().enumerate() {
        *digit = b'0' + (number >> (3 * place) & 7) as u8;
    }
    field[digits] = 0;
}

fn put_path(prefix: &mut [u8; 155], name: &mut [u8; 100], path: &[u8], records: &mut Records) {
    if put_text(name, path) {
        return;
    }
    if path.is_ascii()
        && let Some(slash) = split(path)
    {
        prefix[..slash].copy_from_slice(&path[..slash]);
        name.fill(0);
        name[..path.len() - slash - 1].copy_from_slice(&path[slash + 1..]);
        return;
    }
    records.insert(b"path".to_vec(), path.to_vec());
}

/// Returns the last slash that leaves at most 155 bytes before it and 1 to 100 after.
fn split(path: &[u8]) -> Option<usize> {
    let most = path.len().min(156);
    let inner = if path.len() == most { most - 1 } else { most };
    let slash = path[..inner].iter().rposition(|&byte| byte == b'/')?;
    (slash > 0 && path.len() - slash - 1 <= 100).then_some(slash)
}

/// Writes `text` if it fits and is ASCII; otherwise as much of its ASCII bytes as fits, for readers that know no PAX.
fn put_text(field: &mut [u8; 100], text: &[u8]) -> bool {
    field.fill(0);
    let ascii = text.iter().filter(|byte| byte.is_ascii());
    field.iter_mut().zip(ascii).for_each(|(to, from)| *to = *from);
    text.len() <= field.len() && text.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(path: &[u8]) -> Fields<'_> {
        Fields {
            kind: EntryType::Regular,
            path,
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs: None,
        }
    }

    fn blocks(fields: &Fields<'_>) -> usize {
        let mut out = Vec::new();
        put_header(&mut out, fields);
        out.len() / 512
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        let long = record(b"path", &[b'x'; 90]);
        assert_eq!(long.len(), 99);
        assert!(long.starts_with(b"99 path="));
        assert!(record(b"path", &[b'x'; 91]).starts_with(b"101 path="));
    }

    #[test]
    fn only_what_does_not_fit_costs_a_pax_header() {
        let long = [[b'd'; 100].as_slice(), b"/", &[b'f'; 100]].concat();
        let unsplittable = [b'f'; 101];
        assert_eq!(blocks(&fields(&[b'f'; 100])), 1);
        assert_eq!(blocks(&fields(&long)), 1);
        assert_eq!(blocks(&fields(&unsplittable)), 3);
        assert_eq!(blocks(&fields("ä".as_bytes())), 3);
        assert_eq!(blocks(&Fields { uid: 0o7_777_777, ..fields(b"f") }), 1);
        assert_eq!(blocks(&Fields { uid: 0o10_000_000, ..fields(b"f") }), 3);
        assert_eq!(blocks(&Fields { size: (8 << 30) - 1, ..fields(b"f") }), 1);
        assert_eq!(blocks(&Fields { size: 8 << 30, ..fields(b"f") }), 3);
        assert_eq!(blocks(&Fields { mtime: -1, ..fields(b"f") }), 3);
        assert_eq!(blocks(&Fields { link: &unsplittable, ..fields(b"f") }), 3);
    }

    #[test]
    fn a_long_path_splits_at_a_slash_inside_it() {
        let check = |directory: usize, name: usize| {
            let path = [vec![b'd'; directory], b"/".to_vec(), vec![b'n'; name], b"/".to_vec()].concat();
            split(&path)
        };
        assert_eq!(check(90, 20), Some(90));
        assert_eq!(check(155, 99), Some(155));
        assert_eq!(check(155, 100), None);
        assert_eq!(check(156, 20), None);
        assert_eq!(split(&[b'x'; 120]), None);
    }
}
