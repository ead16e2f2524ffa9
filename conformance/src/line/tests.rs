use super::*;

fn refused(text: &str) -> String {
    step(text, 1).unwrap_err()
}

fn operation(text: &str) -> Operation {
    match step(text, 1).unwrap().action {
        Action::Begin { operation, .. } => operation,
        Action::Check(_) | Action::Cancel(_) => {
            panic!("no operation: {text}")
        }
    }
}

#[test]
fn a_server_is_created_with_what_is_said_and_defaults_otherwise() {
    let create = operation("server2 create type=message read=message quota=16 in=4 first -> ok");
    let expected = Create {
        pipe_type: PipeType::Message,
        read_mode: ReadMode::Message,
        in_quota: 4,
        out_quota: 16,
        first: true,
        ..Create::default()
    };
    assert_eq!(create, Operation::Create(expected));
}

#[test]
fn an_anonymous_pipe_has_a_reader_and_a_writer() {
    assert_eq!(
        operation("pipe2 create size=7"),
        Operation::CreatePipe { size: 7 }
    );
    let (reader, writer) = Label::new("pipe2").unwrap().ends();
    assert_eq!(Some(&reader), Label::new("reader2").as_ref());
    assert_eq!(Some(&writer), Label::new("writer2").as_ref());
    assert_eq!(reader.process(), writer.process());
    assert_ne!(reader.process(), Label::new("pipe").unwrap());
    assert_eq!(
        refused("pipe read 1 -> ok"),
        "expected `create`, got `read`"
    );
}

#[test]
fn content_can_be_joined() {
    let write = operation(r#"client write "ab" + bytes 3 from 7 within 20ms -> ok 5"#);
    let data = [b"ab".to_vec(), pattern(7, 3)].concat();
    let within = Some(Duration::from_millis(20));
    assert_eq!(write, Operation::Write { data, within });
}

#[test]
fn a_tag_names_an_operation_under_way() {
    let begin = step("w1 = client write \"a\" -> pending", 3).unwrap();
    assert!(matches!(begin.action, Action::Begin { tag: Some(_), .. }));
    assert_eq!(begin.expected, Expected(Outcome::Pending));
    assert_eq!(begin.line, 3);
    let tag = Tag("w1".to_owned());
    let check = step("w1 -> ok 1", 1).unwrap();
    assert_eq!(check.action, Action::Check(tag.clone()));
    assert_eq!(check.expected, Expected(Outcome::Wrote(1)));
    assert!(!check.at_once && step("at-once w1 -> ok 1", 1).unwrap().at_once);
    assert_eq!(step("cancel w1", 1).unwrap().action, Action::Cancel(tag));
}

#[test]
fn a_clone_is_of_an_end_of_its_kind() {
    let of = Label::new("client").unwrap();
    assert_eq!(operation("client2 clone client"), Operation::Clone { of });
    for text in [
        "client2 clone server",
        "client clone client",
        "client clone x",
    ] {
        let mistake = refused(text);
        assert!(
            mistake.starts_with("expected another actor of its kind"),
            "{mistake}"
        );
    }
}

#[test]
fn rights_have_a_word_or_are_a_mask() {
    for (text, access) in [
        ("client open", Rights::Both),
        ("client open access=read", Rights::Read),
        ("client open access=0x00120089", Rights::Mask(0x0012_0089)),
    ] {
        let open = Open {
            access,
            ..Open::default()
        };
        assert_eq!(operation(text), Operation::Open(open));
    }
    let mistake = refused("client open access=0xg");
    assert!(mistake.starts_with("expected a mask"), "{mistake}");
}

#[test]
fn a_fellow_lives_in_a_process_of_its_own() {
    let process = |name| Label::new(name).unwrap().process();
    assert_eq!(process("server2"), process("server"));
    assert_ne!(process("fellow"), process("server"));
    assert_ne!(process("fellow2"), process("fellow"));
    assert!(matches!(operation("fellow create"), Operation::Create(_)));
}

#[test]
fn errors_are_numbers_with_or_without_their_symbol() {
    let failed = Expected(Outcome::Failed(Error::BROKEN_PIPE));
    assert_eq!(step("client read 1 -> 109", 1).unwrap().expected, failed);
    assert_eq!(
        step("client read 1 -> 109 ERROR_BROKEN_PIPE", 1)
            .unwrap()
            .expected,
        failed
    );
    assert_eq!(
        refused("client read 1 -> 109 ERROR_NO_DATA"),
        "expected the symbol of error 109, got `ERROR_NO_DATA`"
    );
}

#[test]
fn facts_are_compared_as_far_as_they_are_named() {
    let expected = step("client peek 2 -> ok \"ab\" avail=3", 1)
        .unwrap()
        .expected;
    let told = |avail: u32| Outcome::Told {
        data: Some(b"ab".to_vec()),
        facts: Facts::default().with("left", 1).with("avail", avail),
    };
    assert!(expected.is_met_by(&told(3)));
    assert!(!expected.is_met_by(&told(4)));
    assert!(!expected.is_met_by(&Outcome::Done));
}

#[test]
fn mistakes_are_told_with_what_was_expected() {
    for (text, expected) in [
        ("client read -> ok \"a\"", "expected a number, got `->`"),
        (
            "client read 1",
            "expected `->` and what comes of the step, got the end of the line",
        ),
        (
            "client close -> ok now",
            "expected the end of the line, got `now`",
        ),
        (
            "client write \"a\" -> pending",
            "expected a tag: write `w1 = ...`",
        ),
        ("client create -> ok", "expected connect, disconnect"),
        (
            "caller read 1 -> 1",
            "expected `wait` or `call`, got `read`",
        ),
        (
            "server create typ=byte -> ok",
            "expected one of name, path, direction",
        ),
        (
            "server create type=wide -> ok",
            "expected byte or message for type, got `wide`",
        ),
        (
            "caller wait soon -> ok",
            "expected a time such as 50ms or 2s, got `soon`",
        ),
        ("nobody reads", "expected `server`, `fellow`, `client`"),
        (
            "client write \"a\" -> fine",
            "expected `ok`, `more`, `pending` or an error number",
        ),
        (
            "client peek 1 -> ok \"a\" size=1",
            "expected one of avail, left",
        ),
        ("", "expected an actor or a tag, got the end of the line"),
    ] {
        let mistake = refused(text);
        assert!(mistake.starts_with(expected), "{text}: {mistake}");
    }
}
