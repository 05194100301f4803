//! The one bridge from async code to blocking work.

/// Runs `work` on a thread where it may block; a panic in it goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks are only ever canceled by the end of the runtime, and then nobody waits here.
            Err(error) => unreachable!("a blocking task was canceled: {error}"),
        },
    }
}
