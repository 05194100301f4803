//! What stands before a member: PAX records and GNU long names.

use std::collections::BTreeMap;
use std::io::Read;

use super::error::TarError;
use super::member::TarReader;
use super::sparse::SparseMap;
use crate::index::{Time, TimeKind};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Everything that the extended headers before one member say.
#[derive(Default)]
pub(super) struct Extensions {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The repeated records of GNU's oldest sparse format, in their order.
    sparse: Vec<u64>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.long_name.is_none() && self.long_link.is_none()
    }

    pub(super) fn long_name(&mut self, bytes: &[u8]) {
        self.long_name = Some(until_nul(bytes));
    }

    pub(super) fn long_link(&mut self, bytes: &[u8]) {
        self.long_link = Some(until_nul(bytes));
    }

    /// Adds the records of a PAX header; it replaces what an earlier one said.
    pub(super) fn pax(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        self.records.clear();
        self.sparse.clear();
        while !bytes.is_empty() {
            let (key, value, rest) =
                split_record(bytes).ok_or(TarError::Damaged("a PAX record is malformed"))?;
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                self.sparse.push(decimal(value)?);
            }
            self.records.insert(key.to_vec(), value.to_vec());
            bytes = rest;
        }
        Ok(())
    }

    /// Returns a record's value; an empty one counts as none.
    fn record(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key.as_bytes()).map(|value| &value[..]).filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self) -> Option<&[u8]> {
        let long = self.long_name.as_deref().filter(|name| !name.is_empty());
        long.or_else(|| self.record("GNU.sparse.name")).or_else(|| self.record("path"))
    }

    pub(super) fn link(&self) -> Option<&[u8]> {
        self.long_link.as_deref().filter(|name| !name.is_empty()).or_else(|| self.record("linkpath"))
    }

    pub(super) fn size(&self) -> Result<Option<u64>, TarError> {
        self.record("size").map(decimal).transpose()
    }

    pub(super) fn id(&self, key: &str) -> Result<Option<u32>, TarError> {
        let id = self.record(key).map(decimal).transpose()?;
        id.map(|id| u32::try_from(id).map_err(|_| TarError::Damaged("a PAX record's owner is out of range")))
            .transpose()
    }

    pub(super) fn mtime(&self) -> Result<Option<Time>, TarError> {
        let time = |value| time(value).ok_or(TarError::Damaged("a PAX record's time is no time"));
        self.record("mtime").map(time).transpose()
    }

    pub(super) fn xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let named =
            |(key, value): (&Vec<u8>, &Vec<u8>)| Some((key.strip_prefix(XATTR)?.to_vec(), value.clone()));
        self.records.iter().filter_map(named).filter(|(name, _)| !name.is_empty()).collect()
    }

    /// Returns the map of a file in one of the sparse formats made of PAX records.
    pub(super) fn sparse<R: Read>(
        &self,
        reader: &mut TarReader<'_, R>,
    ) -> Result<Option<SparseMap>, TarError> {
        let size = self.record("GNU.sparse.realsize").or_else(|| self.record("GNU.sparse.size"));
        let Some(size) = size else { return Ok(None) };
        let size = decimal(size)?;
        let mut map = SparseMap::new(size);
        if (self.record("GNU.sparse.major"), self.record("GNU.sparse.minor")) == (Some(b"1"), Some(b"0")) {
            map.read_from_data(reader)?;
        } else if let Some(list) = self.record("GNU.sparse.map") {
            let numbers: Vec<u64> =
                list.split(|&byte| byte == b',').map(decimal).collect::<Result<_, _>>()?;
            map.push_pairs(&numbers)?;
        } else {
            map.push_pairs(&self.sparse)?;
        }
        Ok(Some(map))
    }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// Splits `LENGTH KEY=VALUE\n` off; returns key, value and the rest.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(TarError::Damaged("a PAX record's number is no number"))
}

/// Reads `[-]SECONDS[.FRACTION]`.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    // The fraction counts away from zero; the index counts it upwards.
    Some(match is_negative && nanoseconds > 0 {
        true => {
            let nanoseconds = 1_000_000_000 - nanoseconds;
            Time { seconds: seconds.checked_sub(1)?, nanoseconds, kind: TimeKind::Set }
        }
        false => Time { seconds, nanoseconds, kind: TimeKind::Set },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_their_length() {
        let mut extensions = Extensions::default();
        extensions.pax(b"9 path=x\n23 SCHILY.xattr.a=b=\nc\n25 SCHILY.xattr.user.nl=\n").unwrap();
        assert_eq!(extensions.path(), Some(&b"x"[..]));
        let xattrs = extensions.xattrs();
        assert_eq!(xattrs[&b"a"[..]], b"b=\nc");
        assert_eq!(xattrs[&b"user.nl"[..]], b"");
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"9 path=x"[..],
            b"8 path=x\n",
            b"99 path=x\n",
            b"path=x\n",
            b"4 =x\n",
            b"0 \n",
            b"+9 path=x\n",
            b"2 \n",
        ] {
            assert!(Extensions::default().pax(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let at = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(at("12"), Some((12, 0)));
        assert_eq!(at("12.5"), Some((12, 500_000_000)));
        assert_eq!(at("12.1234567899"), Some((12, 123_456_789)));
        assert_eq!(at("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(at("-0.5"), Some((-1, 500_000_000)));
        assert_eq!(at("-3"), Some((-3, 0)));
        for bad in ["", ".", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
