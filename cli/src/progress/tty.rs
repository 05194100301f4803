//! The live view: steps at work with their last lines of output, above one quiet line of totals.
//!
//! Finished steps become one line each above the view and scroll away with it; cached ones are counted and named once at the
//! end. The view is redrawn as a whole and in one write, so it does not flicker; no line of it is ever as wide as the terminal,
//! so none wraps and the cursor can be moved back by counting lines.

use std::io::{self, Write};
use std::time::Duration;

use mica_solver::{BuildEvent, StepId};

use super::build::{Build, Phase, Step, Transfer};
use super::text::{Colours, bytes, count, duration, fit, printable, width};
use super::{Renderer, Summary, report};
use crate::terminal::{Paint, Size, Tone};

const TICK: Duration = Duration::from_millis(100);
/// What is looked up faster than this is not shown at all.
const GLANCE: Duration = Duration::from_millis(200);
/// Sources and tasks that took longer than this stay in sight.
const NOTABLE: Duration = Duration::from_secs(1);
const OUTPUT_LINES: usize = 6;
const TRANSFER_LINES: usize = 4;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Terminals that know these draw everything between them at once; others ignore them.
const BEGIN_FRAME: &str = "\x1b[?2026h";
const END_FRAME: &str = "\x1b[?2026l";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Draws the live view.
pub(super) struct Tty {
    build: Build,
    paint: Paint,
    size: Size,
    /// Lines that are to be written above the view.
    above: Vec<Row>,
    /// The view as it stands on the terminal.
    drawn: Vec<Row>,
    cursor_hidden: bool,
}

/// One line of the view: pieces of printable text and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Row(Vec<(Option<Tone>, String)>);

impl Row {
    fn new(tone: Option<Tone>, text: &str, cells: usize) -> Self {
        Self(vec![(tone, fit(text, cells))])
    }

    /// A left part that gives way to a right part, `cells` wide in all.
    fn spread(left: &[(Option<Tone>, &str)], right: &str, cells: usize) -> Self {
        let right = if width(right) + 12 > cells { "" } else { right };
        let mut room = cells.saturating_sub(width(right) + usize::from(!right.is_empty()));
        let mut row = Self::default();
        for (tone, text) in left {
            let text = fit(text, room);
            room -= width(&text);
            row.0.push((*tone, text));
        }
        if !right.is_empty() {
            row.0.push((Some(Tone::Dim), format!("{}{right}", " ".repeat(room + 1))));
        }
        row
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }

    fn render(&self, paint: Paint, text: &mut String) {
        for (tone, piece) in &self.0 {
            match tone {
                Some(tone) => text.push_str(&paint.tint(*tone, piece)),
                None => text.push_str(piece),
            }
        }
        text.push_str(CLEAR_LINE);
        text.push('\n');
    }
}

impl Tty {
    pub(super) fn new(size: Size, paint: Paint) -> Self {
        Self {
            build: Build::default(),
            paint,
            size,
            above: Vec::new(),
            drawn: Vec::new(),
            cursor_hidden: false,
        }
    }

    /// The last column stays free: writing there makes some terminals wrap.
    fn cells(&self) -> usize {
        usize::from(self.size.columns).saturating_sub(1)
    }

    fn note_end(&mut self, id: StepId) {
        let Some(step) = self.build.get(id) else { return };
        let (tone, mark, right) = match &step.phase {
            Phase::Ran { took, bytes: 0, .. } => (Tone::Good, "✓", duration(*took)),
            Phase::Ran { took, bytes: size, .. } => {
                (Tone::Good, "✓", format!("{}  {}", bytes(*size), duration(*took)))
            }
            Phase::Resolved(took) if *took >= NOTABLE => (Tone::Good, "✓", duration(*took)),
            Phase::Failed(_) => (Tone::Bad, "✗", "failed".to_owned()),
            Phase::Canceled => (Tone::Dim, "-", "canceled".to_owned()),
            _ => return,
        };
        let (id, name) = (id.to_string(), format!(" {}", step.name));
        let left =
            [(Some(tone), mark), (None, " "), (Some(Tone::Accent), id.as_str()), (None, name.as_str())];
        let row = Row::spread(&left, &right, self.cells());
        self.above.push(row);
    }

    fn note_task(&mut self, at: Duration, what: &str) {
        let what = printable(what, Colours::Drop);
        let since =
            self.build.tasks.iter().rfind(|task| task.transfer.what == what).map_or(at, |task| task.since);
        let took = at.saturating_sub(since);
        if took >= NOTABLE {
            let row = Row::spread(&[(Some(Tone::Good), "✓ "), (None, &what)], &duration(took), self.cells());
            self.above.push(row);
        }
    }

    fn note_warning(&mut self, message: &str) {
        let cells = self.cells();
        for (index, line) in message.lines().enumerate() {
            let line = printable(line, Colours::Drop);
            let head = if index == 0 { "warning: " } else { "  " };
            self.above.push(Row::spread(&[(Some(Tone::Warn), head), (None, &line)], "", cells));
        }
    }

    /// Returns the view for this moment: never more than the terminal's lines less one.
    fn view(&self, at: Duration) -> Vec<Row> {
        let cells = self.cells();
        let room = usize::from(self.size.rows).saturating_sub(2);
        let steps: Vec<_> =
            self.build.active().into_iter().filter(|entry| is_worth_showing(at, entry)).collect();
        let tasks: Vec<_> = self.build.tasks.iter().filter(|task| task.ended.is_none()).collect();
        let items = steps.len() + tasks.len();
        let shown = if items > room { room.saturating_sub(1) } else { items };
        let details = (room - shown.min(room)).checked_div(shown).unwrap_or(0);
        let mut rows = Vec::new();
        for task in tasks.iter().take(shown) {
            rows.push(transfer_row("", &task.transfer, &duration(at.saturating_sub(task.since)), cells));
        }
        for (since, step) in steps.iter().take(shown.saturating_sub(tasks.len())) {
            rows.extend(step_rows(step, at.saturating_sub(*since), details, cells));
        }
        if items > shown && room > 0 {
            rows.push(Row::new(Some(Tone::Dim), &format!("  and {} more", items - shown), cells));
        }
        rows.push(self.footer(at, cells));
        rows
    }

    fn footer(&self, at: Duration, cells: usize) -> Row {
        let counts = self.build.counts();
        let mut parts = vec![duration(at)];
        if counts.steps > 0 {
            parts.push(format!("{} of {}", counts.done, count(counts.steps, "step")));
        }
        if counts.cached > 0 {
            parts.push(format!("{} cached", counts.cached));
        }
        if counts.active > 0 {
            parts.push(format!("{} at work", counts.active));
        }
        Row::new(Some(Tone::Dim), &format!("  {}", parts.join(" · ")), cells)
    }

    /// Replaces the view on the terminal.
    fn draw(&mut self, view: Vec<Row>, out: &mut dyn Write) -> io::Result<()> {
        if self.above.is_empty() && view == self.drawn {
            return Ok(());
        }
        let mut text = String::from(BEGIN_FRAME);
        if !std::mem::replace(&mut self.cursor_hidden, true) {
            text.push_str(HIDE_CURSOR);
        }
        self.go_to_top(&mut text);
        for row in self.above.drain(..).chain(view.iter().cloned()) {
            row.render(self.paint, &mut text);
        }
        text.push_str(CLEAR_BELOW);
        text.push_str(END_FRAME);
        self.drawn = view;
        out.write_all(text.as_bytes())
    }

    /// Moves to the first line of the view. After the terminal became narrower its lines take several rows each.
    fn go_to_top(&self, text: &mut String) {
        let columns = usize::from(self.size.columns).max(1);
        let height: usize = self.drawn.iter().map(|row| row.width().div_ceil(columns).max(1)).sum();
        let height = height.min(usize::from(self.size.rows).saturating_sub(1));
        text.push('\r');
        if height > 0 {
            text.push_str(&format!("\x1b[{height}A"));
        }
    }

    fn cached(&self) -> Option<Row> {
        let ids =
            self.build.steps().filter(|step| step.phase == Phase::Cached).map(|step| step.id.to_string());
        let ids: Vec<String> = ids.collect();
        let text = format!("= cached: {}", ids.join(" "));
        (!ids.is_empty()).then(|| Row::new(Some(Tone::Dim), &text, self.cells()))
    }
}

fn is_worth_showing(at: Duration, (since, step): &(Duration, &Step)) -> bool {
    matches!(step.phase, Phase::Running { .. }) || at.saturating_sub(*since) >= GLANCE
}

fn step_rows(step: &Step, took: Duration, details: usize, cells: usize) -> Vec<Row> {
    let (id, name) = (step.id.to_string(), format!(" {}", step.name));
    let left = [(Some(Tone::Accent), id.as_str()), (None, name.as_str())];
    let mut rows = vec![Row::spread(&[&[(None, "  ")], &left[..]].concat(), &duration(took), cells)];
    let open = step.transfers.iter().filter(|transfer| !transfer.is_complete());
    for transfer in open.take(details.min(TRANSFER_LINES)) {
        rows.push(transfer_row("    ", transfer, "", cells));
    }
    let room = (details + 1 - rows.len()).min(OUTPUT_LINES);
    for line in step.log.recent(room) {
        let line = format!("     {}", printable(line, Colours::Drop));
        rows.push(Row::new(Some(Tone::Dim), &line, cells));
    }
    rows
}

fn transfer_row(indent: &str, transfer: &Transfer, took: &str, cells: usize) -> Row {
    let amount = match (transfer.current, transfer.total) {
        (0, None) => String::new(),
        (current, None) => bytes(current),
        (current, Some(total)) => format!("{} / {}", bytes(current), bytes(total)),
    };
    let gap = if amount.is_empty() || took.is_empty() { "" } else { "  " };
    Row::spread(
        &[(None, indent), (None, "  "), (None, &transfer.what)],
        &format!("{amount}{gap}{took}"),
        cells,
    )
}

impl Renderer for Tty {
    fn event(&mut self, at: Duration, event: &BuildEvent, _: &mut dyn Write) -> io::Result<()> {
        self.build.apply(at, event);
        match event {
            BuildEvent::StepFinished { id, .. }
            | BuildEvent::StepFailed { id, .. }
            | BuildEvent::StepCanceled { id } => self.note_end(*id),
            BuildEvent::Task { what, state: mica_solver::TaskState::Done } => self.note_task(at, what),
            BuildEvent::Warning { message } => self.note_warning(message),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, at: Duration, size: Size, out: &mut dyn Write) -> io::Result<()> {
        self.size = size;
        let view = self.view(at);
        self.draw(view, out)
    }

    fn leave(&mut self, _: Duration, out: &mut dyn Write) -> io::Result<()> {
        self.draw(Vec::new(), out)?;
        if std::mem::take(&mut self.cursor_hidden) {
            out.write_all(SHOW_CURSOR.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self, at: Duration, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        self.above.extend(self.cached());
        self.leave(at, out)?;
        report::end(&self.build, at, summary, self.paint, out)
    }

    fn tick_interval(&self) -> Option<Duration> {
        Some(TICK)
    }
}
