//! Feeds a renderer from the build's channel.
//!
//! A view that can no longer be written (a closed pipe) never stops the build, nor keeps it waiting: events are still taken in.

use std::io::Write;
use std::time::{Duration, Instant};

use mica_solver::BuildEvent;
use tokio::sync::mpsc::Receiver;
use tokio::time::MissedTickBehavior;

use super::{Renderer, Summary, Timeline};
use crate::terminal::Size;

/// How many events are taken in before the view is written.
const BATCH: usize = 256;

/// A renderer, the stream it writes to, and the clock of one build.
pub(crate) struct Progress<W> {
    renderer: Box<dyn Renderer>,
    /// `None` once writing has failed.
    out: Option<W>,
    begin: Instant,
    timeline: Option<Timeline>,
}

impl<W: Write> Progress<W> {
    /// Starts the clock.
    pub(crate) fn new(renderer: Box<dyn Renderer>, out: W) -> Self {
        Self { renderer, out: Some(out), begin: Instant::now(), timeline: None }
    }

    /// Keeps what happens when.
    pub(crate) fn timed(self) -> Self {
        Self { timeline: Some(Timeline::default()), ..self }
    }

    /// Returns what was kept.
    pub(crate) fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref()
    }

    /// Shows events until every sender is gone; `size` is asked before each tick.
    pub(crate) async fn follow(&mut self, events: &mut Receiver<BuildEvent>, size: impl Fn() -> Size) {
        let wanted = self.renderer.tick_interval();
        let mut ticks = tokio::time::interval(wanted.unwrap_or(Duration::from_secs(60)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = events.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    self.note(&batch);
                    self.show(|renderer, at, out| batch.drain(..).try_for_each(|event| renderer.event(at, &event, out)));
                    batch.clear();
                }
                _ = ticks.tick(), if wanted.is_some() => {
                    let size = size();
                    self.show(|renderer, at, out| renderer.tick(at, size, out));
                }
            }
        }
    }

    fn note(&mut self, events: &[BuildEvent]) {
        if let Some(timeline) = &mut self.timeline {
            let at = self.begin.elapsed();
            events.iter().for_each(|event| timeline.see(at, event));
        }
    }

    /// Ends the view; the terminal is as it was before.
    pub(crate) fn leave(&mut self) {
        self.show(|renderer, at, out| renderer.leave(at, out));
    }

    /// Ends the view and tells what came of the build.
    pub(crate) fn finish(&mut self, summary: &Summary) {
        if let Some(timeline) = &mut self.timeline {
            timeline.finish(self.begin.elapsed(), summary.result);
        }
        self.show(|renderer, at, out| renderer.finish(at, summary, out));
    }

    /// Renders into memory and writes it at once.
    fn show(
        &mut self,
        render: impl FnOnce(&mut dyn Renderer, Duration, &mut dyn Write) -> std::io::Result<()>,
    ) {
        let mut text = Vec::new();
        let rendered = render(self.renderer.as_mut(), self.begin.elapsed(), &mut text);
        let Some(out) = &mut self.out else { return };
        if rendered.and_then(|()| out.write_all(&text)).and_then(|()| out.flush()).is_err() {
            self.out = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use mica_solver::{EventSender, StepId};

    use super::super::{BuildResult, View, renderer};
    use super::*;
    use crate::terminal::Paint;

    /// Fails after the first write, as a pipe does whose reader has gone.
    struct Closing(usize);

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn summary() -> Summary {
        Summary {
            result: BuildResult::Succeeded,
            images: vec![],
            tags: vec![],
            outputs: vec![],
            clamp: None,
            log: None,
        }
    }

    #[test]
    fn events_are_shown_until_the_senders_are_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut out = Vec::new();
        runtime.block_on(async {
            let (sender, mut receiver) = EventSender::channel();
            let mut progress = Progress::new(renderer(View::Plain, Paint::Plain), &mut out);
            tokio::join!(progress.follow(&mut receiver, Size::default), async {
                sender.send(BuildEvent::StepCached { id: StepId(0) }).await;
                drop(sender);
            });
            progress.finish(&summary());
        });
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("#1 step 1\n#1 CACHED\n"), "{text}");
    }

    #[test]
    fn a_closed_pipe_does_not_hold_the_build_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (sender, mut receiver) = EventSender::channel();
            let mut progress = Progress::new(renderer(View::Json, Paint::Plain), Closing(0));
            tokio::join!(progress.follow(&mut receiver, Size::default), async {
                for _ in 0..5000 {
                    sender.send(BuildEvent::StepStarted { id: StepId(0) }).await;
                }
                drop(sender);
            });
            progress.finish(&summary());
            assert!(progress.out.is_none());
        });
    }
}
