package javascript

import (
	"context"
	"testing"
	"time"

	"lorikeet/messages"
)

func uplink(bytes ...byte) messages.DecodeInput {
	return messages.DecodeInput{Bytes: bytes, FPort: 2, RecvTime: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
}

func TestQuick(t *testing.T) {
	p, err := Compile(`const decodeUplink = (input) => ({data: {t: input.bytes.slice(0).map(x => x+1), at: input.recvTime, b: Buffer.from('0102ff','hex').readUInt16BE(0), n: NaN}}) // x`)
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.DecodeUplink(context.Background(), uplink(1, 2))
	t.Log(string(d.Data), d.Warnings, err)
}
