package semtechudp

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"

	"lorikeet/messages"
)

// Send gives req to its radio gateway and waits until the radio gateway has queued or refused it: by TX_ACK in version 2; version 1 has no
// answer, and counts as sent. Without an answer before the end of ctx it is TxUnanswered: the frame may have been sent.
//
// A radio gateway that refuses the power is asked again with less. Packet forwarders for the SX1301 refuse each power that is not in their table,
// antenna gain deducted, and tables end at 20 or 27 dBm.
func (s *Server) Send(ctx context.Context, req messages.TxRequest) messages.TxError {
	result := s.send(ctx, req)
	s.metrics.sent(result)
	return result
}

func (s *Server) send(ctx context.Context, req messages.TxRequest) messages.TxError {
	s.mu.Lock()
	conn, stopped := s.conn, s.stopped
	s.mu.Unlock()
	g := s.table.get(req.GatewayEUI)
	if g == nil || conn == nil {
		return messages.TxNoPath
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TxAckTimeout)
	defer cancel()
	wanted := erp(req.Power)
	powe := g.power(wanted)
	for {
		result := s.sendOnce(ctx, stopped, conn, g, req, powe)
		if result != messages.TxPower {
			return result
		}
		var ok bool
		if powe, ok = g.refusedPower(wanted, powe); !ok {
			return result
		}
	}
}

// sendOnce sends one PULL_RESP with a power of powe dBm.
func (s *Server) sendOnce(ctx context.Context, stopped <-chan struct{}, conn *net.UDPConn, g *radioGateway, req messages.TxRequest, powe int64) messages.TxError {
	now := s.cfg.Clock()
	if ctx.Err() != nil {
		return messages.TxTooLate
	}
	to, version, ok := g.path(now, s.cfg.PathExpiry)
	if !ok {
		return messages.TxNoPath
	}
	if up, ok := parseUplinkToken(req.UplinkToken); ok && req.Timing == messages.TxAtTimestamp {
		if result := g.schedulable(req.Timestamp, up.board, now); result != messages.TxOK {
			return result
		}
	}
	token, answer, ok := s.expect(g, version, to.Addr(), now)
	if !ok {
		s.cfg.Log.Warn("radio gateway answers no downlinks; too many are waiting for TX_ACK", "gateway_eui", req.GatewayEUI)
		return messages.TxUnknown
	}
	if version != 1 {
		defer g.forget(token)
	}
	datagram, err := appendPullResp(make([]byte, 0, 768), version, token, req, powe)
	if err != nil {
		s.cfg.Log.Error("downlink can't be told to the radio gateway", "gateway_eui", req.GatewayEUI, "err", err)
		return messages.TxUnknown
	}
	if _, err := conn.WriteToUDPAddrPort(datagram, to); err != nil {
		s.cfg.Log.Warn("downlink not sent to the radio gateway", "gateway_eui", req.GatewayEUI, "err", err)
		return messages.TxNoPath
	}
	if version == 1 {
		g.sent(now)
		return messages.TxOK
	}
	select {
	case result := <-answer:
		if result == messages.TxOK {
			g.sent(s.cfg.Clock())
		}
		return result
	case <-ctx.Done():
	case <-stopped:
	}
	return messages.TxUnanswered
}

// expect draws a token that no other downlink of g waits with. Version 1 has no answer and its token is 0.
func (s *Server) expect(g *radioGateway, version uint8, to netip.Addr, now time.Time) (token uint16, answer <-chan messages.TxError, ok bool) {
	if version == 1 {
		return 0, nil, true
	}
	const tries = 64 // all taken only if the radio gateway has not answered to thousands
	for range tries {
		var b [2]byte
		s.random.Lock()
		_, err := io.ReadFull(s.cfg.Random, b[:])
		s.random.Unlock()
		if err != nil {
			return 0, nil, false
		}
		token = binary.BigEndian.Uint16(b[:])
		if answer, ok = g.expect(token, to, now); ok {
			return token, answer, true
		}
	}
	return 0, nil, false
}
