//! Steps and what comes of them, as a case file says it.

use core::fmt::Write;
use core::time::Duration;

use ntpipe_proto::{DefaultTimeout, Direction, PipeType, ReadMode, WaitMode, WaitTimeout};

use crate::{Action, Create, MaxCount, Open, Operation, Outcome, Rights, SetMode, Where, content};

/// The step without what is expected of it.
pub(super) fn action(action: &Action) -> String {
    match action {
        Action::Begin {
            tag: Some(tag),
            actor,
            operation: op,
        } => format!("{tag} = {actor} {}", operation(op)),
        Action::Begin {
            tag: None,
            actor,
            operation: op,
        } => format!("{actor} {}", operation(op)),
        Action::Check(tag) => tag.to_string(),
        Action::Cancel(tag) => format!("cancel {tag}"),
    }
}

/// What comes of a step; all data is given whole.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Read { data, more } => {
            format!("{} {}", if *more { "more" } else { "ok" }, bytes(data))
        }
        Outcome::Told {
            data: Some(data),
            facts,
        } => {
            let mut text = format!("ok {}", bytes(data));
            for (name, value) in &facts.0 {
                // Writing to a string cannot fail.
                let _ = write!(text, " {name}={value}");
            }
            text
        }
        Outcome::Told { data: None, .. }
        | Outcome::Done
        | Outcome::Wrote(_)
        | Outcome::Process(_)
        | Outcome::Failed(_)
        | Outcome::Pending => outcome.to_string(),
    }
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Create(options) => create(options),
        Operation::CreatePipe { size } => format!("create size={size}"),
        Operation::Open(options) => open(options),
        Operation::Connect { within } => format!("connect{}", limit(*within)),
        Operation::Disconnect => "disconnect".to_owned(),
        Operation::Close => "close".to_owned(),
        Operation::Write { data, within } => format!("write {}{}", bytes(data), limit(*within)),
        Operation::Read { size, within } => format!("read {size}{}", limit(*within)),
        Operation::Peek { size } => format!("peek {size}"),
        Operation::Flush { within } => format!("flush{}", limit(*within)),
        Operation::Transact { data, size, within } => {
            format!("transact {} {size}{}", bytes(data), limit(*within))
        }
        Operation::Call {
            place: at,
            data,
            size,
            timeout,
        } => format!(
            "call{} {} {size} {}",
            place(at),
            bytes(data),
            time(*timeout)
        ),
        Operation::Wait { place: at, timeout } => format!("wait{} {}", place(at), time(*timeout)),
        Operation::SetMode(mode) => set_mode(*mode),
        Operation::Info => "info".to_owned(),
        Operation::Clone { of } => format!("clone {of}"),
        Operation::LocalInfo => "local-info".to_owned(),
        Operation::Granted => "access".to_owned(),
        Operation::Name => "name".to_owned(),
        Operation::CancelIo => "cancel-io".to_owned(),
        Operation::ClientSession => "client-session".to_owned(),
        Operation::ServerSession => "server-session".to_owned(),
        Operation::ClientProcess => "client-process".to_owned(),
        Operation::ServerProcess => "server-process".to_owned(),
        Operation::Kill => "kill".to_owned(),
    }
}

fn create(create: &Create) -> String {
    let usual = Create::default();
    let mut text = format!("create{}", place(&create.place));
    let mut say = |said: bool, word: String| {
        if said {
            text.push(' ');
            text.push_str(&word);
        }
    };
    let direction = match create.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Duplex => "duplex",
    };
    say(
        create.direction != usual.direction,
        format!("direction={direction}"),
    );
    say(
        create.pipe_type == PipeType::Message,
        "type=message".to_owned(),
    );
    say(
        create.read_mode == ReadMode::Message,
        "read=message".to_owned(),
    );
    say(create.wait_mode == WaitMode::NoWait, "wait=no".to_owned());
    let MaxCount(max) = create.max;
    say(create.max != usual.max, format!("max={max}"));
    say(
        create.in_quota != usual.in_quota,
        format!("in={}", create.in_quota),
    );
    say(
        create.out_quota != usual.out_quota,
        format!("out={}", create.out_quota),
    );
    let timeout = match create.timeout {
        DefaultTimeout::Forever => "timeout=forever".to_owned(),
        DefaultTimeout::After(after) => format!("timeout={}", milliseconds(after)),
    };
    say(create.timeout != usual.timeout, timeout);
    say(create.first, "first".to_owned());
    text
}

fn open(open: &Open) -> String {
    let rights = match open.access {
        Rights::Both => "",
        Rights::Read => " access=read",
        Rights::Write => " access=write",
        Rights::None => " access=none",
        Rights::Mask(bits) => return format!("open{} access={bits:#x}", place(&open.place)),
    };
    format!("open{}{rights}", place(&open.place))
}

fn set_mode(mode: SetMode) -> String {
    let read = match mode.read_mode {
        ReadMode::Byte => "byte",
        ReadMode::Message => "message",
    };
    let wait = match mode.wait_mode {
        WaitMode::Wait => "",
        WaitMode::NoWait => " nowait",
    };
    format!("set-mode {read}{wait}")
}

fn place(place: &Where) -> String {
    match place {
        place if *place == Where::default() => String::new(),
        Where::Name(name) => format!(" name={name}"),
        Where::Path(path) => format!(" path='{path}'"),
    }
}

fn limit(within: Option<Duration>) -> String {
    within.map_or_else(String::new, |time| {
        format!(" within {}", milliseconds(time))
    })
}

fn time(timeout: WaitTimeout) -> String {
    match timeout {
        WaitTimeout::Default => "default".to_owned(),
        WaitTimeout::Forever => "forever".to_owned(),
        WaitTimeout::After(time) => milliseconds(time),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// The bytes, whole: as text if they are few, else as the runs of the pattern that they are.
fn bytes(data: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut rest = data;
    while !rest.is_empty() || parts.is_empty() {
        let (part, len) = content::start(rest);
        parts.push(part);
        rest = rest.split_at_checked(len).map_or(&[], |(_, rest)| rest);
    }
    parts.join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expected, Step, pattern};

    #[test]
    fn what_is_written_can_be_read_again() {
        for line in [
            "server create",
            "server2 create name=other direction=inbound type=message read=message wait=no \
             max=2 in=0 out=7 timeout=3ms first",
            "server create direction=outbound timeout=forever",
            r"client open path='\\.\pipe\x' access=none",
            "client2 open name=other access=read",
            "client open access=write",
            "pipe create size=10",
            "server connect within 3ms",
            "server disconnect",
            "client close",
            "client flush within 20ms",
            "client set-mode message nowait",
            "client set-mode byte",
            "client kill",
            "caller wait name=other 3ms",
            "caller wait default",
            "client2 clone client",
            "client open access=0x100",
            "client cancel-io",
            "cancel t1",
        ] {
            let step = Step::parse(line, 1).unwrap();
            assert_eq!(action(&step.action), line);
        }
        for line in [
            "t1 -> pending",
            "t2 = server connect -> pending",
            r#"client write "" -> ok 0"#,
            "client write bytes 100 from 7 within 3ms -> ok 100",
            r#"server read 9 -> ok "ab\x00\"""#,
            "server read 9 -> more bytes 70 from 3",
            r#"client transact "abc" 9 -> 230 ERROR_BAD_PIPE"#,
            r#"t = caller call name=other "abc" 9 forever -> pending"#,
            r#"server peek 9 -> ok "abc" avail=3 left=0 messages=1"#,
            "server info -> ok end=server in=7",
            "server client-process -> ok client",
            "client server-process -> ok server",
        ] {
            let step = Step::parse(line, 1).unwrap();
            let text = format!("{} -> {}", action(&step.action), outcome(&step.expected.0));
            assert_eq!(text, line);
        }
    }

    #[test]
    fn data_of_any_kind_is_given_whole() {
        let mut data = pattern(500, 90);
        data.extend(pattern(7000, 60));
        data.extend([0; 100]);
        let read = Outcome::Read { data, more: false };
        let line = format!("server read 999 -> {}", outcome(&read));
        assert_eq!(Step::parse(&line, 1).unwrap().expected, Expected(read));
        assert!(
            line.contains("bytes 90 from 500 + bytes 60 from 7000 + \""),
            "{line}"
        );
    }
}
