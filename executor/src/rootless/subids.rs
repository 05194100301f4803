//! The ids that the administrator grants an ordinary user (`/etc/subuid`, `/etc/subgid`).

/// Ids in a row outside the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// More than this is never needed: images know ids up to 65535.
const MAX_COUNT: u32 = 65_536;

/// Returns the ranges of a user, found by name or number, together no more than an image can use.
pub(super) fn ranges(file: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let mut left = MAX_COUNT;
    let mut ranges = Vec::new();
    for line in file.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, start, count] = fields.as_slice() else { continue };
        let (Ok(start), Ok(count)) = (start.parse(), count.parse::<u32>()) else { continue };
        if (Some(*owner) == name || *owner == number) && left > 0 && count > 0 {
            let count = count.min(left);
            left -= count;
            ranges.push(Range { start, count });
        }
    }
    ranges
}

/// Returns the arguments of newuidmap and newgidmap after the process id: root is us, then the ranges in order.
pub(super) fn map_arguments(own: u32, ranges: &[Range]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1;
    for range in ranges {
        arguments.extend([inside, range.start, range.count].map(|number| number.to_string()));
        inside += range.count;
    }
    arguments
}

/// Returns the name of a user.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number_and_clamped() {
        let file = "other:1:2\nme:100000:60000\n# x\n1000:500000:65536\nbroken:1\n";
        let expect = [Range { start: 100_000, count: 60_000 }, Range { start: 500_000, count: 5_536 }];
        assert_eq!(ranges(file, Some("me"), 1000), expect);
        assert_eq!(ranges(file, None, 7), []);
    }

    #[test]
    fn ranges_follow_each_other_inside() {
        let ranges = [Range { start: 100_000, count: 10 }, Range { start: 200_000, count: 5 }];
        let arguments = map_arguments(1000, &ranges).join(" ");
        assert_eq!(arguments, "0 1000 1 1 100000 10 11 200000 5");
    }

    #[test]
    fn names_are_found_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(user_name(passwd, 5), None);
    }
}
