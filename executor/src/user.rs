//! The meaning of `USER`: names and numbers, looked up in passwd and group.

use thiserror::Error;

/// An account a program can run under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The primary group and all further ones.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Default for Account {
    fn default() -> Account {
        Account { uid: 0, gid: 0, groups: vec![0], home: "/".to_owned() }
    }
}

/// Why a user cannot be found.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum UnknownAccount {
    #[error("no entry `{0}` in /etc/passwd of the image")]
    User(String),
    #[error("no entry `{0}` in /etc/group of the image")]
    Group(String),
    #[error("`{0}` is not between 0 and 4294967294")]
    Range(String),
}

/// Returns the account that `written` (`user`, `user:group`, empty for root) means.
///
/// A name must exist, a number need not. Further groups are those that list the user, and none where a group was
/// written.
pub(crate) fn resolve(written: &str, passwd: &[u8], group: &[u8]) -> Result<Account, UnknownAccount> {
    let (user, wanted_group) = match written.split_once(':') {
        Some((user, group)) => (user, (!group.is_empty()).then_some(group)),
        None => (written, None),
    };
    let found = find_user(if user.is_empty() { "0" } else { user }, passwd);
    let (uid, mut gid) = match &found {
        Some(entry) => (entry.uid, entry.gid),
        None if user.is_empty() => (0, 0),
        None => (number(user)?.ok_or_else(|| UnknownAccount::User(user.to_owned()))?, 0),
    };
    let mut further = Vec::new();
    match (wanted_group, &found) {
        (Some(wanted), _) => gid = find_group(wanted, group)?,
        (None, Some(entry)) if !written.is_empty() => further = groups_of(&entry.name, group),
        (None, _) => {}
    }
    let mut groups = vec![gid];
    groups.extend(further.into_iter().filter(|other| *other != gid));
    let home =
        found.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(Account { uid, gid, groups, home })
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn fields(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line);
    line.trim().split(':').map(str::to_owned).collect()
}

fn find_user(wanted: &str, passwd: &[u8]) -> Option<PasswdEntry> {
    let entries = passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields = fields(line);
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        let home = fields.get(5).cloned().unwrap_or_default();
        Some(PasswdEntry { name: name.clone(), uid: possible_id(uid)?, gid: possible_id(gid)?, home })
    });
    let number: Option<u32> = wanted.parse().ok();
    entries.into_iter().find(|entry| entry.name == wanted || Some(entry.uid) == number)
}

fn group_entries(group: &[u8]) -> impl Iterator<Item = (String, u32, Vec<String>)> {
    group.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields = fields(line);
        let [name, _, gid, ..] = fields.as_slice() else { return None };
        let members =
            fields.get(3).map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
        Some((name.clone(), possible_id(gid)?, members))
    })
}

fn find_group(wanted: &str, group: &[u8]) -> Result<u32, UnknownAccount> {
    let as_number: Option<u32> = wanted.parse().ok();
    let found = group_entries(group).find(|(name, gid, _)| name == wanted || Some(*gid) == as_number);
    match found {
        Some((_, gid, _)) => Ok(gid),
        None => number(wanted)?.ok_or_else(|| UnknownAccount::Group(wanted.to_owned())),
    }
}

fn groups_of(user: &str, group: &[u8]) -> Vec<u32> {
    let lists_user = |members: &[String]| members.iter().any(|member| member == user);
    group_entries(group).filter(|(_, _, members)| lists_user(members)).map(|(_, gid, _)| gid).collect()
}

/// Parses an id of a file; one that cannot be anybody's makes its line no entry.
fn possible_id(text: &str) -> Option<u32> {
    // The highest value means "leave as it is" to the kernel.
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Parses an id; `None` for what is no number at all.
fn number(text: &str) -> Result<Option<u32>, UnknownAccount> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        // The highest value means "leave as it is" to the kernel.
        Ok(u32::MAX) | Err(_) => Err(UnknownAccount::Range(text.to_owned())),
        Ok(id) => Ok(Some(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n\napp:x:1000:1001::/home/app:/bin/sh\nodd\nsvc:x:33:33::";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\nextra:x:50:app\napp:x:1001:app\n";

    fn check(written: &str, uid: u32, groups: &[u32], home: &str) {
        let account = resolve(written, PASSWD, GROUP).unwrap();
        assert_eq!(
            (account.uid, account.gid, account.groups.as_slice(), account.home.as_str()),
            (uid, groups[0], groups, home),
            "{written}"
        );
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        check("", 0, &[0], "/root");
        check("root", 0, &[0, 10], "/root");
        check("app", 1000, &[1001, 10, 50], "/home/app");
        check("1000", 1000, &[1001, 10, 50], "/home/app");
        check("app:wheel", 1000, &[10], "/home/app");
        check("1000:7", 1000, &[7], "/home/app");
        check("4242", 4242, &[0], "/");
        check("4242:extra", 4242, &[50], "/");
        check("svc", 33, &[33], "/");
        check(":extra", 0, &[50], "/root");
    }

    #[test]
    fn an_image_without_passwd_has_root_and_numbers() {
        assert_eq!(resolve("", b"", b"").unwrap(), Account::default());
        assert_eq!(resolve("5", b"", b"").unwrap().uid, 5);
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        let unknown = |written| resolve(written, PASSWD, GROUP).unwrap_err();
        assert_eq!(unknown("nobody"), UnknownAccount::User("nobody".into()));
        assert_eq!(unknown("app:none"), UnknownAccount::Group("none".into()));
        assert_eq!(unknown("-1"), UnknownAccount::User("-1".into()));
        assert_eq!(unknown("4294967295"), UnknownAccount::Range("4294967295".into()));
        let all_ones = |written| resolve(written, b"odd:x:7:4294967295::/:\n", b"odd:x:4294967295:\n");
        assert_eq!(all_ones("odd"), Err(UnknownAccount::User("odd".into())));
        assert_eq!(all_ones("7:odd"), Err(UnknownAccount::Group("odd".into())));
        assert_eq!(unknown("0:99999999999"), UnknownAccount::Range("99999999999".into()));
    }
}
