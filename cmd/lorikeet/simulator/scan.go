package simulator

import (
	"bytes"

	"lorikeet/messages"
)

// scanUplink finds dev_addr and f_cnt in the JSON of an uplink_message event; ok says that it is one. It walks the text once
// instead of decoding it, which would be a third of the load generator's work. Text that is not JSON gives no sense, but no harm.
func scanUplink(b []byte) (addr messages.DevAddr, fCnt uint32, ok bool) {
	depth := 0
	var top []byte // the key at depth 1 that we are in
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			text, end := scanString(b, i)
			i = end
			rest := bytes.TrimLeft(b[min(end+1, len(b)):], " \t\r\n")
			if depth > 2 || len(rest) == 0 || rest[0] != ':' {
				continue
			}
			value := bytes.TrimLeft(rest[1:], " \t\r\n")
			switch {
			case depth == 1:
				top = text
				ok = ok || string(text) == "uplink_message"
			case string(text) == "f_cnt" && string(top) == "uplink_message":
				fCnt = scanNumber(value)
			case string(text) == "dev_addr" && string(top) == "end_device_ids" && len(value) > 0 && value[0] == '"':
				s, _ := scanString(value, 0)
				addr, _ = messages.ParseDevAddr(string(s)) // a wrong one matches no uplink
			}
		}
	}
	return addr, fCnt, ok
}

// scanString gives the text between the quote at i and the next that is not escaped, and the place of that.
func scanString(b []byte, i int) (text []byte, end int) {
	for end = i + 1; end < len(b); end++ {
		switch b[end] {
		case '\\':
			end++
		case '"':
			return b[i+1 : end], end
		}
	}
	return nil, len(b)
}

func scanNumber(b []byte) (n uint32) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + uint32(c-'0')
	}
	return n
}
