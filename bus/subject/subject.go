// Package subject builds every subject of the bus and derives every
// permission from the same functions. No other package spells a subject.
//
//	ocmt.v1.<tenant>.<plugin>.<generation>.in.<verb>    host   -> runner
//	ocmt.v1.<tenant>.<plugin>.<generation>.out.<verb>   runner -> host
//	ocmt.v1.<tenant>.<plugin>.<generation>.reply.<id>   runner -> host, answers
//	ocmt.v1.<tenant>.<plugin>.<generation>.in.reply.<id> host  -> runner, answers
//
// A runner may publish to its own out and reply subjects and subscribe to its
// own in subjects, and nothing else; the host's identity in the plugin's
// account has the mirror image. A reply subject that a runner forges
// therefore lies outside what the host may publish to, and the server refuses
// it.
package subject
