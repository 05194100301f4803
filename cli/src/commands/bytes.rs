//! `mica size`: where the bytes of an image are. `mica blame`: who put a file there.

use std::process::ExitCode;

use super::exit::Failure;
use super::images::watched;
use super::versions::look_failure;
use super::words::{head, shortened, size as bytes, table};
use super::{print, print_json, setup};
use crate::arguments::{BlameArguments, GlobalOptions, SizeArguments};
use crate::engine::blame::{self, Blamed, Told};
use crate::engine::size::{Sizes, sizes};
use crate::environment::Environment;

/// How much waste is listed before the rest is counted.
const LISTED: usize = 30;

/// `mica size`.
pub(super) fn size(
    arguments: &SizeArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let image = watched(environment, async |events| engine.open_image(&arguments.image, events).await)?;
    let sizes = sizes(&image.map_err(look_failure)?).map_err(look_failure)?;
    if arguments.json {
        return print_json(&sizes);
    }
    print(describe(&sizes).as_bytes())
}

fn describe(sizes: &Sizes) -> String {
    let mut rows = vec![head(&["LINE", "SIZE", "INSTRUCTION"])];
    rows.extend(sizes.layers.iter().map(|line| {
        let number = line.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
        vec![number, bytes(line.size.unwrap_or(0)), shortened(&line.instruction)]
    }));
    rows.push(vec!["all".to_owned(), bytes(sizes.total), String::new()]);
    let mut text = table(&rows);
    if sizes.waste.is_empty() {
        return text;
    }
    text.push_str(&format!(
        "\ncould be saved: {}\n",
        bytes(sizes.waste.iter().map(|waste| waste.bytes).sum())
    ));
    for waste in sizes.waste.iter().take(LISTED) {
        text.push_str(&format!("  {}  {}  ({})\n", bytes(waste.bytes), waste.path, shortened(&waste.by)));
        text.push_str(&format!("      {}\n", shortened(&waste.advice)));
    }
    if sizes.waste.len() > LISTED {
        text.push_str(&format!("  and {} more (`--json` has all)\n", sizes.waste.len() - LISTED));
    }
    text
}

/// `mica blame`.
pub(super) fn blame(
    arguments: &BlameArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let image = watched(environment, async |events| engine.open_image(&arguments.image, events).await)?;
    let blamed = blame::blame(&engine.host.store, &image.map_err(look_failure)?, &arguments.path);
    let blamed = blamed.map_err(look_failure)?;
    if blamed.is_empty() {
        return Err(Failure::plain(format!(
            "no layer of `{}` ever had `{}`",
            arguments.image, arguments.path
        )));
    }
    if arguments.json {
        return print_json(&blamed);
    }
    match blamed.as_slice() {
        [only] => print(whole(only).as_bytes()),
        many => print(many.iter().filter_map(in_one_line).collect::<String>().as_bytes()),
    }
}

fn whole(blamed: &Blamed) -> String {
    let lines: Vec<String> = blamed.deeds.iter().map(|deed| format!("  {}\n", deed_line(deed))).collect();
    format!("{}\n{}", blamed.path, lines.concat())
}

fn in_one_line(blamed: &Blamed) -> Option<String> {
    Some(format!("{}  {}\n", blamed.path, deed_line(blamed.deeds.first()?)))
}

fn deed_line(deed: &Told) -> String {
    let place = deed.line.map_or_else(|| "base".to_owned(), |line| format!("line {line}"));
    let verb = if deed.puts.is_some() { "put by" } else { "removed by" };
    let mut text = format!("{verb} {place}: {}", shortened(&deed.instruction));
    if let Some(package) = &deed.package {
        text.push_str(&format!("  with the package {package}"));
    }
    if let Some(from) = &deed.from {
        text.push_str(&format!("  from `{from}`"));
    }
    if let Some(source) = &deed.source {
        let stage = source.stage.as_ref().map(|stage| format!(" in `{stage}`")).unwrap_or_default();
        text.push_str(&format!("{stage}, {}", deed_line(source)));
    }
    text
}
