//! `--chmod`: an octal mode, or a symbolic one as chmod(1) of the BSDs reads it with an empty umask.

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const USER: u32 = 0o700;
const GROUP: u32 = 0o070;
const OTHER: u32 = 0o007;
/// What a clause without a class changes; the sticky bit has to be asked for.
const EVERYONE: u32 = SET_UID | SET_GID | USER | GROUP | OTHER;

/// A value of `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// The mode itself.
    Octal(u32),
    /// Changes to a mode.
    Symbolic(Changes),
}

/// The changes of a symbolic mode, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

/// A value of `--chmod` that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid --chmod value `{value}`: it is neither an octal mode between 0 and 07777 nor a symbolic mode"
)]
pub struct InvalidMode {
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Clear(u32),
    Set(u32),
    /// Sets bits of a directory, and of anything that somebody could execute before all changes.
    SetExecute(u32),
    /// Copies the bits of one class to others.
    Copy {
        from: Class,
        to: u32,
        how: Operator,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    User,
    Group,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

impl Chmod {
    /// Reads a value of `--chmod`.
    pub fn parse(value: &str) -> Result<Self, InvalidMode> {
        let invalid = || InvalidMode { value: value.to_owned() };
        if value.starts_with(|first: char| first.is_ascii_digit()) {
            let octal = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
            return if octal <= 0o7777 { Ok(Self::Octal(octal)) } else { Err(invalid()) };
        }
        let mut changes = Vec::new();
        for clause in value.split(',') {
            parse_clause(clause.as_bytes(), &mut changes).ok_or_else(invalid)?;
        }
        Ok(Self::Symbolic(Changes(changes)))
    }

    /// Returns the mode that something of mode `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(changes) => changes.apply(mode, is_directory),
        }
    }

    /// Returns the mode of directories that have to be made on the way: an octal mode counts for them, without its special bits.
    #[must_use]
    pub(super) fn of_new_directories(&self) -> u32 {
        match self {
            Self::Octal(octal) => octal & 0o777,
            Self::Symbolic(_) => 0o755,
        }
    }
}

/// Parses one clause: classes, then one or more operators, each with its permissions.
fn parse_clause(clause: &[u8], changes: &mut Vec<Change>) -> Option<()> {
    let classes = clause.iter().take_while(|byte| b"augo".contains(byte)).count();
    let mut who = clause[..classes].iter().fold(0, |who, class| who | class_bits(*class));
    let mut rest = &clause[classes..];
    if rest.is_empty() {
        return None;
    }
    while let Some((operator, after)) = rest.split_first() {
        let how = match operator {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            b'=' => Operator::Assign,
            _ => return None,
        };
        let length = after.iter().take_while(|byte| b"rwxXstugo".contains(byte)).count();
        who &= !STICKY;
        parse_permissions(&after[..length], how, &mut who, changes);
        rest = &after[length..];
    }
    Some(())
}

fn class_bits(class: u8) -> u32 {
    match class {
        b'u' => SET_UID | USER,
        b'g' => SET_GID | GROUP,
        b'o' => OTHER,
        _ => EVERYONE,
    }
}

fn parse_permissions(letters: &[u8], how: Operator, who: &mut u32, changes: &mut Vec<Change>) {
    let mut plain = 0;
    let mut execute = 0;
    let mut assigned = how != Operator::Assign;
    for letter in letters {
        // Only “other” has neither set-id bits nor the sticky bit.
        let special = *who == 0 || *who & !OTHER != 0;
        match letter {
            b'r' => plain |= 0o444,
            b'w' => plain |= 0o222,
            b'X' if how != Operator::Remove => execute = 0o111,
            b'x' | b'X' => plain |= 0o111,
            b's' if special => plain |= SET_UID | SET_GID,
            b't' if special => {
                *who |= STICKY;
                plain |= STICKY;
            }
            b'u' | b'g' | b'o' => {
                flush(&mut plain, &mut execute, how, *who, changes);
                assigned = true;
                let from = match letter {
                    b'u' => Class::User,
                    b'g' => Class::Group,
                    _ => Class::Other,
                };
                let to = if *who == 0 { EVERYONE } else { *who };
                changes.push(Change::Copy { from, to, how });
            }
            _ => {}
        }
    }
    if plain == 0 && !assigned {
        changes.push(Change::Clear(if *who == 0 { EVERYONE } else { *who }));
    }
    flush(&mut plain, &mut execute, how, *who, changes);
}

/// Turns the letters read so far into changes.
fn flush(plain: &mut u32, execute: &mut u32, how: Operator, who: u32, changes: &mut Vec<Change>) {
    let of = |bits: u32| if who == 0 { bits } else { bits & who };
    if *plain != 0 {
        match how {
            Operator::Add => changes.push(Change::Set(of(*plain))),
            Operator::Remove => changes.push(Change::Clear(of(*plain))),
            Operator::Assign => {
                changes.push(Change::Clear(if who == 0 { EVERYONE } else { who }));
                changes.push(Change::Set(of(*plain)));
            }
        }
    }
    if *execute != 0 {
        changes.push(Change::SetExecute(of(*execute)));
    }
    (*plain, *execute) = (0, 0);
}

impl Changes {
    fn apply(&self, original: u32, is_directory: bool) -> u32 {
        let mut mode = original;
        for change in &self.0 {
            match *change {
                Change::Clear(bits) => mode &= !bits,
                Change::Set(bits) => mode |= bits,
                Change::SetExecute(bits) if is_directory || original & 0o111 != 0 => mode |= bits,
                Change::SetExecute(_) => {}
                Change::Copy { from, to, how } => mode = copy_class(mode, from, to, how),
            }
        }
        mode & 0o7777
    }
}

fn copy_class(mode: u32, from: Class, to: u32, how: Operator) -> u32 {
    let bits = match from {
        Class::User => mode >> 6,
        Class::Group => mode >> 3,
        Class::Other => mode,
    } & 0o7;
    let to = to & 0o777;
    let everywhere = (bits << 6 | bits << 3 | bits) & to;
    match how {
        Operator::Add => mode | everywhere,
        Operator::Remove => mode & !everywhere,
        Operator::Assign => mode & !to | everywhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, mode: u32, is_directory: bool, expect: u32) {
        let chmod = Chmod::parse(value).unwrap();
        let got = chmod.apply(mode, is_directory);
        assert_eq!(got, expect, "{value} of {mode:o}: {got:o}, not {expect:o}");
    }

    #[test]
    fn octal_modes_are_taken_whole() {
        check("755", 0o600, false, 0o755);
        check("0", 0o600, false, 0);
        check("07777", 0o600, false, 0o7777);
        assert_eq!(Chmod::parse("4711").unwrap().of_new_directories(), 0o711);
        assert_eq!(Chmod::parse("u=rx").unwrap().of_new_directories(), 0o755);
    }

    #[test]
    fn symbolic_modes_change_what_they_name() {
        check("u=rwX,go=rX", 0o600, false, 0o644);
        check("u=rwX,go=rX", 0o700, false, 0o755);
        check("u=rwX,go=rX", 0o700, true, 0o755);
        check("u=rwX,go=rX", 0o600, true, 0o755);
        check("go-r,u+x", 0o600, false, 0o700);
        check("a+w", 0o600, false, 0o622);
        check("+x", 0o644, false, 0o755);
        check("-x", 0o755, false, 0o644);
        check("-X", 0o755, false, 0o644);
        check("g=u", 0o741, false, 0o771);
        check("go=u-w", 0o700, false, 0o755);
        check("o-g", 0o752, false, 0o752 & !0o005);
        check("u=", 0o4755, false, 0o055);
        check("=", 0o7777, false, 0o1000);
        check("u+s,g+s", 0o755, false, 0o6755);
        check("o+s", 0o755, false, 0o755);
        check("u-s", 0o6755, false, 0o2755);
        check("+t", 0o777, true, 0o1777);
        check("u+r-w", 0o200, false, 0o400);
        check("a=rx", 0o4640, false, 0o555);
        check("u+", 0o640, false, 0o640);
        check("g+u", 0o640, false, 0o660);
    }

    #[test]
    fn other_values_are_refused() {
        for value in ["", "888", "17777", "u", "u+q", "u+r,", ",u+r", "rwx", "+644", "u++", "0o644"] {
            let parsed = Chmod::parse(value);
            // Two operators in a row are two empty changes for the reference too.
            assert_eq!(parsed.is_err(), value != "u++", "{value}: {parsed:?}");
        }
        let error = Chmod::parse("999").unwrap_err().to_string();
        assert!(error.contains("`999`"), "{error}");
    }
}
