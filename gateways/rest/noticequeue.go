package rest

import "sync"

// maxNotices a client may be behind; one that is further behind is cut off. An import of devices makes many changes in little time.
const maxNotices = 20_000

// noticeQueue keeps the changes that a client has not been told of yet. It has a bound and takes memory only while there are some.
type noticeQueue struct {
	more chan struct{} // has one while there is something to take
	most int

	mu    sync.Mutex
	queue []notice
}

func newNoticeQueue(most int) *noticeQueue {
	return &noticeQueue{more: make(chan struct{}, 1), most: most}
}

// add says whether there was room.
func (q *noticeQueue) add(n notice) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == q.most {
		return false
	}
	q.queue = append(q.queue, n)
	select {
	case q.more <- struct{}{}:
	default: // it has one already
	}
	return true
}

// take gives all that is there.
func (q *noticeQueue) take() []notice {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.queue
	q.queue = nil
	return all
}
