//! The form of a row: `number name(argument: Type, …) => handler, level;`, from which decoding, strace and documentation come.

macro_rules! support {
    (full) => {
        crate::table::Support::Full
    };
    (partial $note:literal) => {
        crate::table::Support::Partial($note)
    };
    (refused $note:literal) => {
        crate::table::Support::Refused($note)
    };
}

macro_rules! is_path {
    (PathArg) => {
        true
    };
    ($other:ident) => {
        false
    };
}

macro_rules! syscalls {
    ($($number:literal $name:ident ($($arg:ident : $ty:ident),*) => $handler:path, $level:ident $($note:literal)?;)*) => {
        pub(super) const ENTRIES: &[crate::table::Entry] = &[$(crate::table::Entry {
            number: $number,
            name: stringify!($name),
            arguments: &[$(crate::table::Argument {
                name: stringify!($arg),
                show: <$ty as crate::args::FromArg>::show,
                is_path: is_path!($ty),
            }),*],
            support: support!($level $($note)?),
            handler: |task, args| {
                let mut values = args.iter().copied();
                let _ = &mut values;
                $(let $arg = <$ty as crate::args::FromArg>::from_arg(values.next().unwrap_or(0));)*
                $handler(task $(, $arg)*)
            },
        }),*];
    };
}
