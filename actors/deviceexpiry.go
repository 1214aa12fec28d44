package actors

import (
	"time"

	"lorikeet/actors/device"
)

// expireNow says that an item of the queue may have expired.
type expireNow struct{}

// expire takes what has expired out of the queue.
func (d *Device) expire() error {
	for {
		now := d.cfg.Clock()
		if at, ok := d.state.NextExpiry(); !ok || at.After(now) {
			return nil
		}
		if _, err := d.step(device.ExpireDownlinks{Now: now, IDs: []string{"as:downlink:" + d.cfg.Random.ULID(now)}}); err != nil {
			return err
		}
	}
}

// watchExpiry sets the timer by the state that was committed. An actor that sleeps has none: what expires meanwhile is found when it wakes.
func (d *Device) watchExpiry() {
	at, ok := d.state.NextExpiry()
	if !ok || !at.Equal(d.expiresAt) {
		d.stopExpiry()
	}
	if !ok || d.expiry != nil {
		return
	}
	self := d.self
	d.expiresAt = at
	d.expiry = time.AfterFunc(at.Sub(d.cfg.Clock()), func() { self(expireNow{}) })
}

func (d *Device) stopExpiry() {
	if d.expiry != nil {
		d.expiry.Stop()
		d.expiry = nil
	}
}

func (d *Device) expireLogged() {
	d.expiry = nil
	err := d.ready()
	if err == nil {
		err = d.expire()
	}
	d.lost(device.ExpireDownlinks{}, err)
	if d.loaded {
		d.watchExpiry()
	}
}
