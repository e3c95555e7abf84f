# What Cython users cimport: from picows.picows cimport WSListener, WSTransport, WSFrame, WSMsgType, WSCloseCode
from picows.frame cimport WSCloseCode, WSFrame, WSMsgType
from picows.listener cimport WSListener
from picows.transport cimport WSAutoPingStrategy, WSTransport
