// The contract's services. The browser adds the session cookie, which scripts cannot read, so nothing here holds a
// secret.
import { createClient } from '@connectrpc/connect';
import { MessageService } from './gen/chatto/api/v1/message_service_pb';
import { MyAccountService } from './gen/chatto/api/v1/my_account_service_pb';
import { RoomService } from './gen/chatto/api/v1/room_service_pb';
import { transport } from './transport';

export const messages = createClient(MessageService, transport);
export const rooms = createClient(RoomService, transport);
export const account = createClient(MyAccountService, transport);
