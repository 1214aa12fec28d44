package formatters_test

import (
	"context"
	"testing"
	"time"

	"lorikeet/formatters"
	"lorikeet/messages"
)

func TestQuick(t *testing.T) {
	s, err := formatters.Open(formatters.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, src := range []string{
		`function decodeUplink(i) { return {data: {n: i.bytes.length}, warnings: ["w"]} }`,
		`function decodeUplink(i) { for(;;); }`,
		`function decodeUplink(i) { return {data: {n: 'x'.repeat(1<<30).length}} }`,
		`function decodeUplink(i) { return {data: {n: /(a|aa)+(?=b)\1/.test('a'.repeat(200))}} }`,
		`function decodeUplink(i) { return {data: {n: i.bytes.length}`,
		`function decodeUplink(i) { throw {toString(){for(;;);}} }`,
		`function decodeUplink(i) { return {data: {n: JSON.parse('['.repeat(3e6)) }}}`,
		`function decodeUplink(i) { return {data: {n: i.bytes.length}, warnings: ["w"]} }`,
	} {
		start := time.Now()
		d, err := s.DecodeUplink(context.Background(), messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: src}, messages.DecodeInput{Bytes: []byte{1, 2, 3}, FPort: 1, RecvTime: time.Now()})
		t.Logf("%v %s %v %v", time.Since(start), d.Data, d.Warnings, err)
	}
}

func BenchmarkJavaScriptThroughWorker(b *testing.B) {
	s, err := formatters.Open(formatters.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	f := messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: `function decodeUplink(i) { return {data: {n: i.bytes.length}, warnings: ["w"]} }`}
	for b.Loop() {
		if _, err := s.DecodeUplink(context.Background(), f, messages.DecodeInput{Bytes: []byte{1, 2, 3}, FPort: 1, RecvTime: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
}
