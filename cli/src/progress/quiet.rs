//! Views that say little: nothing before the end, or nothing at all.

use std::io::{self, Write};
use std::time::Duration;

use mica_solver::BuildEvent;

use super::build::Build;
use super::{Renderer, Summary, report};
use crate::terminal::{Paint, Size};

/// Says only what a failed step said; the image id is printed by whoever asked for the build.
pub(super) struct Quiet {
    build: Build,
    paint: Paint,
}

impl Quiet {
    pub(super) fn new(paint: Paint) -> Self {
        Self { build: Build::default(), paint }
    }
}

impl Renderer for Quiet {
    fn event(&mut self, at: Duration, event: &BuildEvent, _: &mut dyn Write) -> io::Result<()> {
        self.build.apply(at, event);
        Ok(())
    }

    fn tick(&mut self, _: Duration, _: Size, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn leave(&mut self, _: Duration, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: Duration, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        report::failures(&self.build, summary, self.paint, out)
    }

    fn tick_interval(&self) -> Option<Duration> {
        None
    }
}

/// Says nothing.
pub(super) struct Nothing;

impl Renderer for Nothing {
    fn event(&mut self, _: Duration, _: &BuildEvent, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: Duration, _: Size, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn leave(&mut self, _: Duration, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: Duration, _: &Summary, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn tick_interval(&self) -> Option<Duration> {
        None
    }
}
