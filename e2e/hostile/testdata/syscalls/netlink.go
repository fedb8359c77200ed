package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// netlink asks the kernel to change the network: an address, a route and the
// state of the loopback device, and a device of its own.
func netlink([]string) outcomes {
	found := outcomes{}
	link := unix.IfInfomsg{Index: 1, Change: unix.IFF_UP}
	down := (*[unsafe.Sizeof(link)]byte)(unsafe.Pointer(&link))[:]
	address := unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 32, Index: 1}
	add := append((*[unsafe.Sizeof(address)]byte)(unsafe.Pointer(&address))[:], attribute(unix.IFA_LOCAL, []byte{192, 0, 2, 1})...)
	via := unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST}
	route := append((*[unsafe.Sizeof(via)]byte)(unsafe.Pointer(&via))[:], attribute(unix.RTA_OIF, []byte{1, 0, 0, 0})...)
	dummy := append(make([]byte, unsafe.Sizeof(link)), attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("dummy\x00")))...)
	for name, m := range map[string]struct {
		kind, flags uint16
		body        []byte
	}{
		"device down":   {unix.RTM_NEWLINK, 0, down},
		"new address":   {unix.RTM_NEWADDR, unix.NLM_F_CREATE, add},
		"default route": {unix.RTM_NEWROUTE, unix.NLM_F_CREATE, route},
		"new device":    {unix.RTM_NEWLINK, unix.NLM_F_CREATE | unix.NLM_F_EXCL, dummy},
	} {
		found[name] = became(ask(m.kind, m.flags, m.body))
	}
	return found
}

func attribute(kind uint16, value []byte) []byte {
	head := unix.RtAttr{Len: uint16(unix.SizeofRtAttr + len(value)), Type: kind}
	b := append((*[unix.SizeofRtAttr]byte)(unsafe.Pointer(&head))[:], value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// ask sends one message and returns the error of its acknowledgement.
func ask(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is lost
	head := unix.NlMsghdr{Len: uint32(unix.SizeofNlMsghdr + len(body)), Type: kind, Flags: flags | unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: 1}
	message := append((*[unix.SizeofNlMsghdr]byte)(unsafe.Pointer(&head))[:], body...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	code := *(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr]))
	if code == 0 {
		return nil
	}
	return unix.Errno(-code)
}
