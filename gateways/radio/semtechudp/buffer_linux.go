package semtechudp

import (
	"net"
	"syscall"
)

// receiveBuffer gives the size of the receive buffer the kernel granted, 0 if it does not say.
func receiveBuffer(conn *net.UDPConn) (bytes int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF); err == nil {
			bytes = n / 2 // Linux doubles it for its own bookkeeping, and reports that
		}
	})
	return bytes
}
