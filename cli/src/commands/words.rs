//! Sizes, ages and tables as every listing shows them.

use crate::environment::now;

/// How long ago a time in seconds since 1970 was.
pub(super) fn age(since: i64) -> String {
    let now = now().unix().map_or(0, |(seconds, _)| seconds);
    ago(now - since)
}

fn ago(seconds: i64) -> String {
    let units = [
        (365 * 86400, "year"),
        (30 * 86400, "month"),
        (86400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    for (length, name) in units {
        let count = seconds / length;
        if count > 0 {
            return format!("{count} {name}{} ago", if count == 1 { "" } else { "s" });
        }
    }
    "now".to_owned()
}

/// A number of bytes.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (length, name) in units {
        if bytes >= length {
            return format!("{:.1} {name}", bytes as f64 / length as f64);
        }
    }
    format!("{bytes} B")
}

/// A number of things: `1 file`, `2 files`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Lays rows out in columns.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The words at the head of a table.
pub(super) fn head(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// An instruction in one line that is not too long for a table.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_said_in_words() {
        assert_eq!([size(0), size(1500), size(2_500_000_000)], ["0 B", "1.5 kB", "2.5 GB"]);
        assert_eq!(
            [ago(0), ago(1), ago(7200), ago(86400 * 400)],
            ["now", "1 second ago", "2 hours ago", "1 year ago"]
        );
        assert_eq!([count(1, "file"), count(2, "file")], ["1 file", "2 files"]);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [head(&["A", "LONGER"]), head(&["wide", "x"])];
        assert_eq!(table(&rows), "A      LONGER\nwide   x\n");
        assert_eq!(shortened("RUN a \\\n   b"), "RUN a \\ b");
    }
}
