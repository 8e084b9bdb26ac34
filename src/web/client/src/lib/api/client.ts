// The contract's services. The browser adds the session cookie, which scripts cannot read, so nothing here holds a
// secret.
import { MessageService } from './gen/chatto/api/v1/message_service_pb';
import { MyAccountService } from './gen/chatto/api/v1/my_account_service_pb';
import { RoomService } from './gen/chatto/api/v1/room_service_pb';
import { clientOf } from './transport';

export const messages = clientOf(MessageService);
export const rooms = clientOf(RoomService);
export const account = clientOf(MyAccountService);
