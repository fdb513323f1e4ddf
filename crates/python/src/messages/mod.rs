//! The named tuples of kamacache.net.messages and the messages of proto/peer.proto, into each other.
mod received;
mod sent;

pub use received::{contact, from_reply, from_request};
pub use sent::{Member, Terms, member, reply, request, terms, write_item};

/// The classes, each imported once.
mod classes {
    use pyo3::{prelude::*, sync::PyOnceLock, types::PyType};

    macro_rules! classes {
        ($($function:ident => $name:literal),* $(,)?) => {$(
            pub fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
                static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                TYPE.import(py, "kamacache.net.messages", $name)
            }
        )*};
    }

    classes! {
        member_class => "Member",
        contact_class => "Contact",
        group_state_class => "GroupState",
        hello_class => "Hello",
        load_request_class => "LoadRequest",
        answer_class => "Answer",
        load_reply_class => "LoadReply",
        fill_request_class => "FillRequest",
        fill_reply_class => "FillReply",
        terms_class => "Terms",
        outcome_class => "Outcome",
        write_item_class => "WriteItem",
        write_request_class => "WriteRequest",
        write_reply_class => "WriteReply",
        tell_reply_class => "TellReply",
        tell_request_class => "TellRequest",
        client_request_class => "ClientRequest",
        client_reply_class => "ClientReply",
    }
}
