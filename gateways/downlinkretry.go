package gateways

import (
	"context"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/v3/pb"
)

const (
	downlinkAttempt   = 10 * time.Second
	downlinkPause     = 100 * time.Millisecond // after an attempt that failed, doubled
	downlinkMaxPause  = 5 * time.Second
	internalDownlinks = 5 // attempts, if the server itself fails at the request
)

// HandleUntilSettled carries out a request that its sender keeps until it is acknowledged. It returns nil when that is due: the change is durable, or
// the request was refused for good, of which the application has been told. While the server is not available it tries again, until ctx ends; then it returns an
// error, and the sender is to keep the request. SenderRepeats must be set.
func (d *DownlinkDoor) HandleUntilSettled(ctx context.Context, subscription DownlinkTopic, topic string, body []byte) error {
	internal := 0
	for pause := downlinkPause; ; pause = min(2*pause, downlinkMaxPause) {
		attemptCtx, cancel := context.WithTimeout(ctx, downlinkAttempt)
		err := d.HandleOn(attemptCtx, subscription, topic, body)
		cancel()
		if messages.CodeOf(err) == messages.CodeInternal {
			internal++
		}
		switch {
		case Settled(err):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case internal >= internalDownlinks:
			d.giveUp(ctx, subscription, topic, body, err)
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// giveUp reports a request at which the server fails by itself, so that it does not hold up all that follow.
func (d *DownlinkDoor) giveUp(ctx context.Context, subscription DownlinkTopic, topic string, body []byte, reason error) {
	d.Logger.Error("gave up a downlink request that the server fails at", "err", reason)
	convert := pb.QueueRequestFromProto
	id, named := subscription.Device(topic)
	if named {
		convert = pb.DownlinksFromProto
	}
	text, err := d.json(body, convert)
	if err != nil {
		return
	}
	device := messages.DeviceID{ApplicationID: d.Application, DeviceID: id}
	if !named {
		if device, err = d.device(text); err != nil {
			return
		}
	}
	downlinks, err := d.decode(text)
	if err == nil {
		d.refuse(ctx, device, downlinks, reason)
	}
}
