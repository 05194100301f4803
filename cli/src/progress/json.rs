//! The event stream as it is: one JSON object a line, with `time` in seconds since the start of the build.
//!
//! Step numbers are those of the events, counted from 0. The last line is `"event":"build-finished"` with the summary.

use std::io::{self, Write};
use std::time::Duration;

use mica_solver::BuildEvent;
use serde::Serialize;

use super::{Renderer, Summary};
use crate::terminal::Size;

/// Writes JSON.
pub(super) struct Json;

#[derive(Serialize)]
struct Timed<'a, T> {
    time: f64,
    #[serde(flatten)]
    event: &'a T,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "build-finished")]
struct Finished<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Renderer for Json {
    fn event(&mut self, at: Duration, event: &BuildEvent, out: &mut dyn Write) -> io::Result<()> {
        write_line(at, event, out)
    }

    fn tick(&mut self, _: Duration, _: Size, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn leave(&mut self, _: Duration, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, at: Duration, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        write_line(at, &Finished { summary }, out)
    }

    fn tick_interval(&self) -> Option<Duration> {
        None
    }
}

fn write_line<T: Serialize>(at: Duration, event: &T, out: &mut dyn Write) -> io::Result<()> {
    let time = at.as_millis() as f64 / 1000.0;
    let mut line = serde_json::to_vec(&Timed { time, event })?;
    line.push(b'\n');
    out.write_all(&line)
}
